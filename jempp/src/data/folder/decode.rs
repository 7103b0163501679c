//! Image files to bytes.
//!
//! Invariants: a file is taken for hostile: its size is checked before a pixel is decoded, and decoding is bounded in
//! memory. No image is scaled or cropped, nor loses colour, depth or transparency; grey becomes RGB where another image
//! has colour. What comes out, an error included, does not depend on the number of threads.

use super::list::{Entry, SUPPORTED};
use crate::data::spread::spread;
use crate::error::{Error, Result};
use core::sync::atomic::{AtomicBool, Ordering};
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use std::fs::File;
use std::io::{Cursor, ErrorKind, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Largest height and width.
const LARGEST: u32 = 4096;
/// Longest file: more than the largest image takes in any format.
const LONGEST: u64 = 1 << 28;
/// Memory that decoding may take for each pixel, and in all on top.
const BYTES_A_PIXEL: u64 = 64;
const BYTES_MORE: u64 = 1 << 24;
/// Files that a thread takes at a time, at most.
const BLOCK: usize = 64;
/// The end of a whole PNG: the type and checksum of its last chunk.
const PNG_END: &[u8] = b"IEND\xaeB`\x82";

/// The images of `files`: their size [H, W, C], with C = 1 if all of them are grey, and their bytes. `progress` hears
/// of files done and files in all.
///
/// # Errors
/// [`Error::Data`] naming the first file that is damaged, of another format, too large, or not of the first one's size;
/// [`Error::Io`].
pub(super) fn decode(
    files: &[Entry],
    threads: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<([usize; 3], Vec<u8>)> {
    let first = files.first().ok_or_else(|| Error::Internal("a listing without files".into()))?;
    let (size, grey) = read_header(&first.path)?;
    let all = Wanted { files, first: &first.path, size };
    let [h, w] = size.map(|n| n as usize);
    if grey && let Some(images) = all.decode(1, threads, progress)? {
        return Ok(([h, w, 1], images));
    }
    let images = all.decode(3, threads, progress)?;
    Ok(([h, w, 3], images.ok_or_else(|| Error::Internal("too much colour".into()))?))
}

/// What is to be read.
struct Wanted<'a> {
    files: &'a [Entry],
    first: &'a Path,
    /// Height and width.
    size: [u32; 2],
}

impl Wanted<'_> {
    /// All images with `channels` channels; `None` if that is 1 and there is colour.
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
        // With colour found nothing else counts: an earlier error, if any, comes again in the second pass.
        if colour.load(Ordering::Relaxed) {
            return Ok(None);
        }
        drop(blocks);
        result.map(|_| Some(images))
    }

    /// Reads an image to `out`; `false` if it is coloured and has no room for that.
    fn read(&self, path: &Path, channels: usize, bytes: &mut Vec<u8>, out: &mut [u8]) -> Result<bool> {
        let wrong = |why: &str| Error::Data(format!("{}: {why}", path.display()));
        read_file(path, bytes)?;
        let (decoder, size) = open(path, bytes)?;
        if size != self.size {
            let ([h, w], [fh, fw]) = (size, self.size);
            return Err(wrong(&format!(
                "is {h}×{w} (height × width), but {} is {fh}×{fw}; all images of a data set must have one size",
                self.first.display()
            )));
        }
        let color = decoder.color_type();
        if channels == 1 && color.has_color() {
            return Ok(false);
        }
        let direct = matches!((color, channels), (ColorType::L8, 1) | (ColorType::Rgb8, 3));
        if direct {
            decoder.read_image(out).map_err(|e| damaged(path, &e))?;
            return Ok(true);
        }
        let planes = usize::from(color.channel_count());
        let mut raw = vec![0; out.len() / channels * planes];
        decoder.read_image(&mut raw).map_err(|e| damaged(path, &e))?;
        for (o, p) in out.chunks_exact_mut(channels).zip(raw.chunks_exact(planes)) {
            if color.has_alpha() && p[planes - 1] != u8::MAX {
                return Err(wrong("is transparent in places; flatten it"));
            }
            if color.has_color() {
                o.copy_from_slice(&p[..channels]);
            } else {
                o.fill(p[0]);
            }
        }
        Ok(true)
    }
}

/// Height and width of the image in a file, and its pixels as RGB.
///
/// # Errors
/// [`Error::Data`] when it is damaged, of another format, too large or transparent; [`Error::Io`].
pub(in crate::data) fn rgb(path: &Path) -> Result<([usize; 2], Vec<u8>)> {
    let (size, _) = read_header(path)?;
    let [h, w] = size.map(|n| n as usize);
    let mut out = room(h * w, 3)?;
    Wanted { files: &[], first: path, size }.read(path, 3, &mut Vec::new(), &mut out)?;
    Ok(([h, w], out))
}

/// `n` images of `pixels` zeros.
fn room(n: usize, pixels: usize) -> Result<Vec<u8>> {
    let mut images = Vec::new();
    let all = n.checked_mul(pixels).filter(|all| images.try_reserve_exact(*all).is_ok());
    let Some(all) = all else {
        return Err(Error::Data(format!("{n} images of {pixels} bytes do not fit into memory")));
    };
    images.resize(all, 0);
    Ok(images)
}

/// Height and width of an image, and whether it is grey.
fn read_header(path: &Path) -> Result<([u32; 2], bool)> {
    let mut bytes = Vec::new();
    read_file(path, &mut bytes)?;
    let (decoder, size) = open(path, &bytes)?;
    Ok((size, !decoder.color_type().has_color()))
}

/// A decoder of 8 bits a channel at most, and the image's height and width.
fn open<'a>(path: &Path, bytes: &'a [u8]) -> Result<(impl ImageDecoder + use<'a>, [u32; 2])> {
    let wrong = |why: &str| Error::Data(format!("{}: {why}", path.display()));
    let format = match image::guess_format(bytes) {
        Ok(f @ (ImageFormat::Png | ImageFormat::Jpeg)) => f,
        Ok(f) => return Err(wrong(&format!("holds a {f:?} image; {SUPPORTED}"))),
        Err(_) if bytes.is_empty() => return Err(wrong("is empty")),
        Err(_) => return Err(wrong(&format!("is no image that is read here; {SUPPORTED}"))),
    };
    // A limit on the sides would make the decoder's message of what is said better below.
    let mut limits = Limits::default();
    limits.max_alloc = Some(u64::from(LARGEST).pow(2) * 16 + BYTES_MORE);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(|e| damaged(path, &e))?;
    let (w, h) = decoder.dimensions();
    if w.max(h) > LARGEST {
        return Err(wrong(&format!("is {h}×{w} (height × width); at most {LARGEST}×{LARGEST} is read")));
    }
    if w.min(h) == 0 {
        return Err(wrong("has no pixels"));
    }
    limits.max_alloc = Some(u64::from(w) * u64::from(h) * BYTES_A_PIXEL + BYTES_MORE);
    decoder.set_limits(limits).map_err(|e| damaged(path, &e))?;
    let color = decoder.color_type();
    if u16::from(color.bytes_per_pixel()) != u16::from(color.channel_count()) {
        return Err(wrong("has more than 8 bits a channel; convert it to 8"));
    }
    let whole = match format {
        ImageFormat::Png => bytes.windows(PNG_END.len()).rev().any(|w| w == PNG_END),
        _ => jpeg_is_whole(bytes),
    };
    if !whole {
        return Err(wrong("is cut short: it has a beginning but no end"));
    }
    Ok((decoder, [h, w]))
}

/// Whether a JPEG has its end marker. The decoder would fill what is missing with grey and say nothing.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let byte = |i: usize| bytes.get(i).copied();
    let mut at = 2;
    let mut scan = false;
    while let (Some(a), Some(b)) = (byte(at), byte(at + 1)) {
        match (a, b) {
            (0xff, 0xd9) => return true,
            // Fill bytes before a marker.
            (0xff, 0xff) => at += 1,
            // Stuffed bytes and restarts within a scan.
            (0xff, 0x00 | 0x01 | 0xd0..=0xd7) => at += 2,
            (0xff, marker) => {
                let (Some(high), Some(low)) = (byte(at + 2), byte(at + 3)) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
                scan = marker == 0xda;
            }
            _ if scan => at += 1,
            _ => return false,
        }
    }
    false
}

fn read_file(path: &Path, bytes: &mut Vec<u8>) -> Result<()> {
    bytes.clear();
    let file = File::open(path).and_then(|f| f.take(LONGEST + 1).read_to_end(bytes));
    match file {
        Ok(n) if n as u64 > LONGEST => {
            Err(Error::Data(format!("{}: is longer than {} MiB", path.display(), LONGEST >> 20)))
        }
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Err(Error::Data(format!("{}: has gone while the data set was read", path.display())))
        }
        Err(e) => Err(Error::io(path, e)),
    }
}

fn damaged(path: &Path, e: &ImageError) -> Error {
    Error::Data(format!("{}: is damaged or cut short: {e}", path.display()))
}
