//! Writer of TensorBoard event files: scalars, images and histograms by step.
//!
//! Invariants: a file is always new and grows by whole records in TFRecord framing (length, masked CRC-32C of the
//! length, message, masked CRC-32C of the message); non-finite values are omitted, because TensorBoard cannot draw
//! them.

mod messages;

use crate::error::{Error, Result};
use messages::{Content, Event, Histogram, Image, SessionLog, Summary, Value, What};
use prost::Message;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Number of buckets of a histogram, all of equal width.
const BUCKETS: usize = 40;
/// `SessionLog.START`.
const START: i32 = 1;

/// An event file open for writing.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Creates a file in `folder`, which is created if necessary. TensorBoard reads the files of a folder as one run,
    /// in the order of their names, which start with the time.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let (seconds, process) = (now() as u64, std::process::id());
        for i in 0..u32::MAX {
            let path = folder.join(format!("events.out.tfevents.{seconds:010}.jempp.{process}.{i}"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => {
                    let mut writer = Self { file, path };
                    writer.put(0, What::FileVersion("brain.Event:2".into()))?;
                    return Ok(writer);
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io(&path, e)),
            }
        }
        Err(Error::Internal("no free name for an event file".into()))
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes TensorBoard discard events of earlier files in the folder from `step` on, for a run that resumes from a
    /// checkpoint.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn restart(&mut self, step: u64) -> Result<()> {
        self.put(step, What::SessionLog(SessionLog { status: START }))
    }

    /// Writes scalars by tag; non-finite ones are omitted.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let finite = values.iter().filter(|(_, v)| (*v as f32).is_finite());
        let value = |(tag, v): &(&str, f64)| named(tag, Content::Scalar(*v as f32));
        self.summary(step, finite.map(value).collect())
    }

    /// Writes an image: an RGB PNG file of `size` = [height, width].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn image(&mut self, step: u64, tag: &str, png: Vec<u8>, size: [u32; 2]) -> Result<()> {
        let [height, width] = size.map(|s| s as i32);
        let image = Image { height, width, colorspace: 3, encoded: png };
        self.summary(step, vec![named(tag, Content::Image(image))])
    }

    /// Writes a histogram of the finite ones of `values`, if there are any.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn histogram(&mut self, step: u64, tag: &str, values: &[f32]) -> Result<()> {
        let found = histogram(values).map(|h| named(tag, Content::Histogram(h)));
        self.summary(step, found.into_iter().collect())
    }

    fn summary(&mut self, step: u64, value: Vec<Value>) -> Result<()> {
        if value.is_empty() {
            return Ok(());
        }
        self.put(step, What::Summary(Summary { value }))
    }

    /// Appends a record in one write, so that at most the last record of a file is truncated.
    fn put(&mut self, step: u64, what: What) -> Result<()> {
        let event = Event { wall_time: now(), step: step as i64, what: Some(what) };
        let record = framed(&event.encode_to_vec());
        self.file.write_all(&record).map_err(|e| Error::io(&self.path, e))
    }
}

fn named(tag: &str, content: Content) -> Value {
    Value { tag: tag.to_owned(), content: Some(content) }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// Frames a message as a TFRecord.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), message, &masked(message)].concat()
}

/// TFRecord's masked CRC-32C. The mask avoids computing the CRC of data that contain CRCs.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn histogram(values: &[f32]) -> Option<Histogram> {
    let v: Vec<f64> = values.iter().filter(|v| v.is_finite()).map(|v| f64::from(*v)).collect();
    let min = v.iter().copied().reduce(f64::min)?;
    let max = v.iter().copied().reduce(f64::max)?;
    let width = (max - min) / BUCKETS as f64;
    let mut bucket = vec![0.0; if width > 0.0 { BUCKETS } else { 1 }];
    let last = bucket.len() - 1;
    for v in &v {
        // If all values are equal, the quotient is NaN, which converts to 0.
        bucket[(((v - min) / width) as usize).min(last)] += 1.0;
    }
    let mut bucket_limit: Vec<f64> = (1..=last).map(|i| min + i as f64 * width).collect();
    bucket_limit.push(max);
    let (sum, sum_squares) = (v.iter().sum(), v.iter().map(|v| v * v).sum());
    Some(Histogram { min, max, num: v.len() as f64, sum, sum_squares, bucket_limit, bucket })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes the messages of a file and checks every frame.
    fn read(path: &Path) -> Vec<Event> {
        let bytes = fs::read(path).unwrap();
        let (mut at, mut out) = (0, Vec::new());
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            assert_eq!(bytes[at + 8..at + 12], masked(&bytes[at..at + 8]));
            let message = &bytes[at + 12..at + 12 + length];
            assert_eq!(bytes[at + 12 + length..at + 16 + length], masked(message));
            out.push(Event::decode(message).unwrap());
            at += 16 + length;
        }
        out
    }

    /// The masked checksum of 32 zeros, whose CRC-32C RFC 3720 gives, and the bytes of a record of known content.
    #[test]
    fn frames_follow_tfrecord() {
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked(&[0; 32]), 0x0fd7_fffau32.to_le_bytes());
        let event = Event { wall_time: 1.0, step: 2, what: Some(What::FileVersion("v".into())) };
        let bytes = event.encode_to_vec();
        assert_eq!(bytes, [9, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 2, 0x1a, 1, b'v']);
        assert_eq!(framed(&bytes)[..8], [14, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn events_are_written_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("tb");
        let mut w = EventWriter::create(&folder).unwrap();
        w.scalars(3, &[("a", 1.5), ("b", f64::NAN), ("c", 1e300)]).unwrap();
        w.scalars(4, &[("b", f64::INFINITY)]).unwrap();
        w.image(5, "grid", vec![1, 2, 3], [4, 6]).unwrap();
        w.histogram(6, "h", &[1.0, f32::NAN, 2.0]).unwrap();
        w.histogram(6, "h", &[f32::NAN]).unwrap();
        let other = EventWriter::create(&folder).unwrap();
        assert_ne!(other.path(), w.path());
        let events = read(w.path());
        assert_eq!(events.iter().map(|e| e.step).collect::<Vec<_>>(), [0, 3, 5, 6]);
        assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".into())));
        let scalar = Summary { value: vec![named("a", Content::Scalar(1.5))] };
        assert_eq!(events[1].what, Some(What::Summary(scalar)));
        assert!(events.windows(2).all(|e| e[0].wall_time <= e[1].wall_time) && events[0].wall_time > 1.7e9);
        assert_eq!(read(other.path()).len(), 1);
    }

    #[test]
    fn histograms_count_every_value_once() {
        let values: Vec<f32> = (0..1000).map(|i| (i * 37 % 1000) as f32 / 10.0 - 50.0).collect();
        let h = histogram(&values).unwrap();
        assert_eq!((h.min, h.max, h.num), (-50.0, f64::from(49.9f32), 1000.0));
        assert_eq!((h.bucket.len(), h.bucket.iter().sum::<f64>()), (BUCKETS, 1000.0));
        assert!(h.bucket.iter().all(|n| *n == 25.0), "{:?}", h.bucket);
        assert!(h.bucket_limit.windows(2).all(|l| l[0] < l[1]) && *h.bucket_limit.last().unwrap() == h.max);
        assert!((h.sum / 1000.0 + 0.05).abs() < 1e-6 && (h.sum_squares / 1000.0 - 833.335).abs() < 1e-3);
        let one = histogram(&[3.0; 5]).unwrap();
        assert_eq!((one.bucket, one.bucket_limit), (vec![5.0], vec![3.0]));
        assert_eq!(histogram(&[f32::NAN]), None);
    }

    #[test]
    fn a_folder_that_cannot_be_created_is_an_io_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(EventWriter::create(&file).unwrap_err().exit_code(), 7);
    }
}
