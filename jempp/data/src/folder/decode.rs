//! Decoding of the image files of a folder.
//!
//! Invariants: a file is untrusted: its size is checked before pixels are decoded, and memory stays within 64 times the size
//! of the files plus 1 MiB or, if that is more, what the caller lets files unpack to. Images are turned as EXIF says and
//! rounded to 8 bits; they are scaled only where that was asked for, and never lose colour or transparency; grey images become
//! RGB if another image has colour. The result, errors included, does not depend on the number of threads.

use super::parts::Entry;
use crate::spread::spread;
use core::sync::atomic::{AtomicBool, Ordering};
use jempp_formats::codecs::{Decoder, Fault, Format, SUPPORTED};
use jempp_formats::kind::{self, Kind};
use jempp_formats::resize::Resize;
use jempp_formats::unpack::Unpack;
use jempp_formats::{Error, Result};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Largest height and width, and those of images that are scaled.
const LARGEST: u32 = 4096;
const LARGEST_SCALED: u32 = 1 << 14;
/// Largest file in bytes: more than the largest image takes in any format.
const LONGEST: u64 = 1 << 28;
/// Images may unpack to `TIMES` times the size of their file plus what the caller allows any file. Photographs reach ratios of
/// 10 to 30, drawings and masks 100 and more.
const TIMES: u64 = 48;
/// The corresponding factor and constant for other content of a PNG, such as colour profiles.
const METADATA: [u64; 2] = [8, 1 << 16];
/// Largest number of files per task.
const BLOCK: usize = 64;
/// The type and checksum of the last chunk of a PNG, present in every complete file.
const PNG_END: &[u8] = b"IEND\xaeB`\x82";

/// How images are decoded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Decoding {
    /// What images are scaled to; without it they must have one size.
    pub resize: Option<Resize>,
    /// What files may unpack to.
    pub unpack: Unpack,
}

/// Decodes `files` and returns their size [H, W, C], with C = 1 if all are grey, and pixels. `progress` is called with
/// the numbers of decoded files and of all files.
///
/// # Errors
/// [`Error::Data`] naming the first file that is damaged, of an unsupported format, too large, or not of the first
/// one's size; [`Error::Io`].
pub(super) fn decode(
    files: &[Entry],
    how: &Decoding,
    threads: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<([usize; 3], Vec<u8>)> {
    let first = files.first().ok_or_else(|| Error::Internal("an empty listing".into()))?;
    let (size, grey) = read_header(&first.path, how)?;
    let size = how.resize.map_or(size, |r| r.size.map(|n| n as u32));
    let all = Batch { files, first: &first.path, size, how };
    let [h, w] = size.map(|n| n as usize);
    let length = files.iter().fold(0u64, |sum, f| sum.saturating_add(f.length));
    let what = format!("{} and {} more images", first.path.display(), files.len() - 1);
    // Scaled to a size that was asked for, they take what was asked for.
    if how.resize.is_none() {
        afford(&what, length, (files.len() * h * w * if grey { 1 } else { 3 }) as u64, how.unpack)?;
    }
    if grey && let Some(images) = all.decode(1, threads, progress)? {
        return Ok(([h, w, 1], images));
    }
    let images = all.decode(3, threads, progress)?;
    Ok((
        [h, w, 3],
        images.ok_or_else(|| Error::Internal("images with three channels have no room for colour".into()))?,
    ))
}

/// Images to decode, all of one size.
struct Batch<'a> {
    files: &'a [Entry],
    first: &'a Path,
    /// Height and width.
    size: [u32; 2],
    how: &'a Decoding,
}

impl Batch<'_> {
    /// Decodes all images to `channels` channels; `None` if that is 1 and an image has colour.
    fn decode(
        &self,
        channels: usize,
        threads: usize,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<Vec<u8>>> {
        let n = self.files.len();
        let pixels = (self.size[0] * self.size[1]) as usize * channels;
        let mut images = room(n, pixels)?;
        let block = BLOCK.min(n.div_ceil(16)).max(1);
        let blocks: Vec<_> = images.chunks_mut(block * pixels).map(Mutex::new).collect();
        let colour = AtomicBool::new(false);
        let work = |i: usize| {
            let mut out = blocks[i].lock().unwrap_or_else(PoisonError::into_inner);
            let mut bytes = Vec::new();
            for (image, file) in out.chunks_mut(pixels).zip(&self.files[i * block..]) {
                if colour.load(Ordering::Relaxed) {
                    break;
                }
                if !self.read(&file.path, channels, &mut bytes, image)? {
                    colour.store(true, Ordering::Relaxed);
                }
            }
            Ok(())
        };
        let result = spread(threads, blocks.len(), work, &mut |k| progress((k * block).min(n), n));
        // If an image has colour, all are decoded again; an error before it will recur then.
        if colour.load(Ordering::Relaxed) {
            return Ok(None);
        }
        drop(blocks);
        result.map(|_| Some(images))
    }

    /// Decodes an image to `out`; `false` if it has colour but `channels` is 1.
    fn read(&self, path: &Path, channels: usize, bytes: &mut Vec<u8>, out: &mut [u8]) -> Result<bool> {
        read_file(path, bytes)?;
        let image = Header::of(path, bytes, self.how)?;
        if self.how.resize.is_none() && image.size != self.size {
            let ([h, w], [fh, fw]) = (image.size, self.size);
            return Err(Error::Data(format!(
                "{}: is {h}×{w} (height × width), but {} is {fh}×{fw}; all images of a data set must have one size, or be \
                 scaled to one with data.resize=[H, W]",
                path.display(),
                self.first.display()
            )));
        }
        if channels == 1 && image.decoder.pixel.coloured {
            return Ok(false);
        }
        image.afford(channels)?;
        image.write(channels, self.how.resize, out).map(|()| true)
    }
}

/// Decodes an image file to RGB: height and width, and H×W×3 values.
///
/// # Errors
/// [`Error::Data`] when it is damaged, of an unsupported format, too large or transparent; [`Error::Io`].
pub(crate) fn rgb(path: &Path, unpack: Unpack) -> Result<([usize; 2], Vec<u8>)> {
    let mut bytes = Vec::new();
    read_file(path, &mut bytes)?;
    rgb_of(path, &bytes, unpack)
}

/// Decodes the content of an image file to RGB, as [`rgb`] does. Error messages name it `path`.
///
/// # Errors
/// Those of [`rgb`].
pub(crate) fn rgb_of(path: &Path, bytes: &[u8], unpack: Unpack) -> Result<([usize; 2], Vec<u8>)> {
    let image = Header::of(path, bytes, &Decoding { unpack, resize: None })?;
    image.afford(3)?;
    let [h, w] = image.size.map(|n| n as usize);
    let mut out = room(h * w, 3)?;
    image.write(3, None, &mut out)?;
    Ok(([h, w], out))
}

/// Checks that `what`, of `length` bytes on disk, does not unpack to implausibly many `bytes`.
///
/// # Errors
/// [`Error::Data`] if it does.
pub(crate) fn afford(what: &str, length: u64, bytes: u64, unpack: Unpack) -> Result<()> {
    if bytes <= unpack.allowed(length, TIMES) {
        return Ok(());
    }
    Err(Error::Data(format!("{what}: {}", unpack.refusal(length, TIMES, bytes))))
}

/// Allocates `n` images of `pixels` zero bytes.
fn room(n: usize, pixels: usize) -> Result<Vec<u8>> {
    let mut images = Vec::new();
    let all = n.checked_mul(pixels).filter(|all| images.try_reserve_exact(*all).is_ok());
    let Some(all) = all else {
        return Err(Error::Data(format!("{n} images of {pixels} bytes do not fit in memory")));
    };
    images.resize(all, 0);
    Ok(images)
}

/// Reads height and width of an image, and whether it is grey.
fn read_header(path: &Path, how: &Decoding) -> Result<([u32; 2], bool)> {
    let mut bytes = Vec::new();
    read_file(path, &mut bytes)?;
    let image = Header::of(path, &bytes, how)?;
    Ok((image.size, !image.decoder.pixel.coloured))
}

/// An image whose header has been read.
struct Header<'a> {
    path: &'a Path,
    length: u64,
    format: Format,
    decoder: Decoder<'a>,
    /// Height and width, the right way up.
    size: [u32; 2],
    /// Bytes per pixel that the decoder allocates besides the pixels.
    overhead: u64,
    unpack: Unpack,
}

impl<'a> Header<'a> {
    fn of(path: &'a Path, bytes: &'a [u8], how: &Decoding) -> Result<Self> {
        let unpack = how.unpack;
        let wrong = |why: &str| Error::Data(format!("{}: {why}", path.display()));
        let Some(format) = Format::of(bytes) else {
            return Err(match kind::of(bytes) {
                Kind::Empty => wrong("is empty"),
                Kind::Unknown => wrong(&format!("is not an image in a supported format; {SUPPORTED}")),
                other => wrong(&format!("is {}; {SUPPORTED}", other.with_article())),
            });
        };
        let length = bytes.len() as u64;
        let metadata = length.saturating_mul(METADATA[0]).saturating_add(METADATA[1]);
        let limit = match format {
            Format::Png | Format::Jpeg => metadata,
            // Everything that these decoders allocate.
            _ => unpack.allowed(length, TIMES),
        };
        let decoder = Decoder::new(format, bytes, limit).map_err(|e| damaged(path, format, &e))?;
        let [h, w] = decoder.upright_size();
        let most = if how.resize.is_some() { LARGEST_SCALED } else { LARGEST };
        if w.max(h) > most {
            return Err(wrong(&format!("is {h}×{w} (height × width); the maximum is {most}×{most}")));
        }
        if w.min(h) == 0 {
            return Err(wrong("has no pixels"));
        }
        let overhead = match format {
            Format::Png => bytes.windows(PNG_END.len()).rev().any(|w| w == PNG_END).then_some(0),
            Format::Jpeg => complete_jpeg(bytes),
            // A copy of the pixels, as RGBA.
            _ => Some(4),
        };
        let Some(overhead) = overhead else {
            return Err(wrong("is cut short: its end is missing"));
        };
        Ok(Self { path, length, format, decoder, size: [h, w], overhead, unpack })
    }

    /// Whether its pixels can be decoded to `channels` channels without conversion.
    fn is_direct(&self, channels: usize) -> bool {
        self.decoder.is_upright() && channels == if self.decoder.pixel.coloured { 3 } else { 1 }
    }

    /// Checks that decoding to `channels` channels takes no more memory than the size of the file justifies.
    fn afford(&self, channels: usize) -> Result<()> {
        let copy = if self.is_direct(channels) { 0 } else { self.decoder.total() };
        let pixels = u64::from(self.size[0]) * u64::from(self.size[1]);
        let bytes = pixels * (channels as u64 + self.overhead) + copy;
        afford(&self.path.display().to_string(), self.length, bytes, self.unpack)
    }

    /// Decodes its pixels to `out`, scaled if asked for; grey becomes RGB if `channels` is 3.
    fn write(self, channels: usize, resize: Option<Resize>, out: &mut [u8]) -> Result<()> {
        let (path, format) = (self.path, self.format);
        if resize.is_none() && self.is_direct(channels) {
            return self.decoder.read(out).map_err(|e| damaged(path, format, &e));
        }
        let image = self.decoder.upright().map_err(|e| match e {
            Fault::Damaged(why) => damaged(path, format, &why),
            Fault::Transparent(_) => {
                Error::Data(format!("{}: has transparent pixels; flatten it", path.display()))
            }
        })?;
        let planes = if image.coloured { 3 } else { 1 };
        let pixels = match resize {
            Some(resize) => resize.apply(&image.pixels, image.size, planes),
            None => image.pixels,
        };
        for (o, p) in out.chunks_exact_mut(channels).zip(pixels.chunks_exact(planes)) {
            if planes == channels { o.copy_from_slice(p) } else { o.fill(p[0]) }
        }
        Ok(())
    }
}

/// Checks that a JPEG has its end marker, without which the decoder would silently fill in grey. Returns the bytes per
/// pixel that the decoder allocates besides the pixels: coefficients, if the JPEG has several scans; `None` if the end
/// is missing.
fn complete_jpeg(bytes: &[u8]) -> Option<u64> {
    let byte = |i: usize| bytes.get(i).copied();
    let mut at = 2;
    let (mut scan, mut several) = (false, false);
    let (mut parts, mut overhead) = (0, 0);
    while let (Some(a), Some(b)) = (byte(at), byte(at + 1)) {
        match (a, b) {
            (0xff, 0xd9) => return Some(if several { overhead } else { 0 }),
            // Fill bytes before a marker.
            (0xff, 0xff) => at += 1,
            // Stuffed bytes and restart markers within a scan.
            (0xff, 0x00 | 0x01 | 0xd0..=0xd7) => at += 2,
            (0xff, marker) => {
                if matches!(marker, 0xc0..=0xc2) {
                    parts = byte(at + 9)?;
                    overhead = coefficients(bytes.get(at + 10..at + 10 + 3 * usize::from(parts))?);
                    several |= marker == 0xc2;
                }
                scan = marker == 0xda;
                several |= scan && byte(at + 4)? < parts;
                at += 2 + usize::from(u16::from_be_bytes([byte(at + 2)?, byte(at + 3)?]));
            }
            _ if scan => at += 1,
            _ => return None,
        }
    }
    None
}

/// Bytes per pixel of 16-bit coefficients, from a frame's list of components: three bytes each, of which the second is
/// the horizontal and vertical sampling factor. A single component is never subsampled, whatever its factors.
fn coefficients(components: &[u8]) -> u64 {
    let samples =
        components.as_chunks::<3>().0.iter().map(|[_, s, _]| [u64::from(s >> 4), u64::from(s & 15)]);
    let all: u64 = samples.clone().map(|[h, v]| h * v).sum();
    let most = |axis: usize| samples.clone().map(|s| s[axis]).max().unwrap_or(1).max(1);
    (2 * all).div_ceil(if components.len() == 3 { 1 } else { most(0) * most(1) })
}

fn read_file(path: &Path, bytes: &mut Vec<u8>) -> Result<()> {
    bytes.clear();
    let file = File::open(path).and_then(|f| f.take(LONGEST + 1).read_to_end(bytes));
    match file {
        Ok(n) if n as u64 > LONGEST => {
            Err(Error::Data(format!("{}: is larger than {} MiB", path.display(), LONGEST >> 20)))
        }
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Err(Error::Data(format!("{}: disappeared while the data set was read", path.display())))
        }
        Err(e) => Err(Error::io(path, e)),
    }
}

fn damaged(path: &Path, format: Format, e: &str) -> Error {
    let path = path.display();
    match format {
        Format::Png | Format::Jpeg => Error::Data(format!("{path}: is damaged or cut short: {e}")),
        // Of the other formats only the usual kinds are read.
        other => Error::Data(format!("{path}: cannot be read as {other:?}: {e}; convert it to PNG")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files that PIL wrote decode as in PIL: PNG exactly, JPEG within the rounding of its transforms.
    #[test]
    fn images_decode_as_in_pil() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/tests/pictures");
        let read_rgb = |name: &str| {
            let (size, pixels) = rgb(&folder.join(name), Unpack::default()).unwrap();
            assert_eq!(size, [7, 9], "{name}");
            pixels
        };
        let at = |i: usize| [20 + 25 * (i % 9), 230 - 30 * (i / 9), 10 * (i % 9 + i / 9)].map(|v| v as u8);
        let colours: Vec<u8> = (0..63).flat_map(at).collect();
        assert_eq!(read_rgb("rgb.png"), colours);
        assert_eq!(read_rgb("opaque.png"), colours);
        // ITU-R 601-2, in the integers of PIL.
        let grey = |[r, g, b]: [u8; 3]| {
            (u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471 + 0x8000) >> 16
        };
        assert_eq!(read_rgb("grey.png"), (0..63).flat_map(|i| [grey(at(i)) as u8; 3]).collect::<Vec<_>>());
        assert!(read_rgb("bits.png").iter().all(|v| [0, 255].contains(v)));
        let mut read = jempp_formats::npz::Npz::open(&folder.join("read.npz")).unwrap();
        for (name, most) in
            [("palette.png", 0), ("grey.jpg", 1), ("full.jpg", 1), ("half.jpg", 3), ("progressive.jpg", 3)]
        {
            let got = read_rgb(name);
            let (shape, want) = read.u8(name).unwrap();
            let worst = got.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            println!("{name}: {worst}");
            assert!(shape == [7, 9, 3] && got.len() == want.len() && worst <= most, "{name}: {worst}");
        }
    }
}
