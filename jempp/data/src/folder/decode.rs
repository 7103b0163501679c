//! Image files to bytes.
//!
//! Invariants: a file is taken for hostile: its size is checked before a pixel is decoded, and what is decoded stays within
//! 64 times the bytes of the files and a MiB. No image is scaled or cropped, nor loses colour, depth or transparency; grey becomes RGB where another image
//! has colour. What comes out, an error included, does not depend on the number of threads.

use super::list::{Entry, SUPPORTED};
use crate::spread::spread;
use core::sync::atomic::{AtomicBool, Ordering};
use jempp_formats::codecs::{self, Decoder, Format, Pixel};
use jempp_formats::{Error, Result};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Largest height and width.
const LARGEST: u32 = 4096;
/// Longest file: more than the largest image takes in any format.
const LONGEST: u64 = 1 << 28;
/// Bytes that pixels may take for each byte of a file, and in any case: 418×418 of one colour. Photographs take 10 to 30.
const TIMES: u64 = 48;
const MORE: u64 = 1 << 19;
/// The same for what else a PNG holds (colour profiles, say).
const BESIDE: [u64; 2] = [8, 1 << 16];
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
    let length = files.iter().fold(0u64, |sum, f| sum.saturating_add(f.length));
    let what = format!("{} and {} more like it", first.path.display(), files.len() - 1);
    afford(&what, length, (files.len() * h * w * if grey { 1 } else { 3 }) as u64)?;
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
        read_file(path, bytes)?;
        let image = Opened::of(path, bytes)?;
        if image.size != self.size {
            let ([h, w], [fh, fw]) = (image.size, self.size);
            return Err(Error::Data(format!(
                "{}: is {h}×{w} (height × width), but {} is {fh}×{fw}; all images of a data set must have one size",
                path.display(),
                self.first.display()
            )));
        }
        if channels == 1 && image.decoder.pixel.coloured {
            return Ok(false);
        }
        image.afford(channels)?;
        image.write(channels, out).map(|()| true)
    }
}

/// Height and width of the image in a file, and its pixels as RGB.
///
/// # Errors
/// [`Error::Data`] when it is damaged, of another format, too large or transparent; [`Error::Io`].
pub(crate) fn rgb(path: &Path) -> Result<([usize; 2], Vec<u8>)> {
    let mut bytes = Vec::new();
    read_file(path, &mut bytes)?;
    rgb_of(path, &bytes)
}

/// The same of a file's bytes; messages call it `path`.
///
/// # Errors
/// As [`rgb`].
pub(crate) fn rgb_of(path: &Path, bytes: &[u8]) -> Result<([usize; 2], Vec<u8>)> {
    let image = Opened::of(path, bytes)?;
    image.afford(3)?;
    let [h, w] = image.size.map(|n| n as usize);
    let mut out = room(h * w, 3)?;
    image.write(3, &mut out)?;
    Ok(([h, w], out))
}

/// Refuses `what`, of `length` bytes on disk, if its pixels would take more than such files honestly hold.
pub(crate) fn afford(what: &str, length: u64, bytes: u64) -> Result<()> {
    if bytes <= length.saturating_mul(TIMES).saturating_add(MORE) {
        return Ok(());
    }
    Err(Error::Data(format!(
        "{what}: the {length} bytes on disk unpack to {bytes}, more than {TIMES} times as many and {} KiB, as hostile files \
         do; if these are honest images, make them smaller or compress them less",
        MORE >> 10
    )))
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
    let image = Opened::of(path, &bytes)?;
    Ok((image.size, !image.decoder.pixel.coloured))
}

/// An image of 8 bits a channel at most, of which the header has been read.
struct Opened<'a> {
    path: &'a Path,
    length: u64,
    decoder: Decoder<'a>,
    /// Height and width.
    size: [u32; 2],
    /// Bytes a pixel that the decoder takes beside the pixels.
    kept: u64,
}

impl<'a> Opened<'a> {
    fn of(path: &'a Path, bytes: &'a [u8]) -> Result<Self> {
        let wrong = |why: &str| Error::Data(format!("{}: {why}", path.display()));
        let format = match (Format::of(bytes), codecs::name(bytes)) {
            (Some(f @ (Format::Png | Format::Jpeg)), _) => f,
            (_, Some(other)) => return Err(wrong(&format!("holds a {other} image; {SUPPORTED}"))),
            (_, None) if bytes.is_empty() => return Err(wrong("is empty")),
            (_, None) => return Err(wrong(&format!("is no image that is read here; {SUPPORTED}"))),
        };
        let length = bytes.len() as u64;
        let limit = length.saturating_mul(BESIDE[0]).saturating_add(BESIDE[1]);
        let decoder = Decoder::new(format, bytes, limit).map_err(|e| damaged(path, &e))?;
        let [h, w] = decoder.size;
        if w.max(h) > LARGEST {
            return Err(wrong(&format!("is {h}×{w} (height × width); at most {LARGEST}×{LARGEST} is read")));
        }
        if w.min(h) == 0 {
            return Err(wrong("has no pixels"));
        }
        if decoder.pixel.deep {
            return Err(wrong("has more than 8 bits a channel; convert it to 8"));
        }
        let kept = match format {
            Format::Png => bytes.windows(PNG_END.len()).rev().any(|w| w == PNG_END).then_some(0),
            _ => whole_jpeg(bytes),
        };
        let Some(kept) = kept else {
            return Err(wrong("is cut short: it has a beginning but no end"));
        };
        Ok(Self { path, length, decoder, size: [h, w], kept })
    }

    /// Whether its pixels can be decoded straight to `channels` channels.
    fn is_direct(&self, channels: usize) -> bool {
        let Pixel { coloured, alpha, .. } = self.decoder.pixel;
        !alpha && channels == if coloured { 3 } else { 1 }
    }

    /// Refuses it if decoding it to `channels` channels would take more memory than its file has a right to.
    fn afford(&self, channels: usize) -> Result<()> {
        let copy = if self.is_direct(channels) { 0 } else { self.decoder.total() };
        let pixels = u64::from(self.size[0]) * u64::from(self.size[1]);
        let bytes = pixels * (channels as u64 + self.kept) + copy;
        afford(&self.path.display().to_string(), self.length, bytes)
    }

    /// Writes its pixels to `out`; grey becomes RGB where `channels` are 3.
    fn write(self, channels: usize, out: &mut [u8]) -> Result<()> {
        let path = self.path;
        let pixel = self.decoder.pixel;
        if self.is_direct(channels) {
            return self.decoder.read(out).map_err(|e| damaged(path, &e));
        }
        let planes = pixel.channels();
        let mut raw = vec![0; out.len() / channels * planes];
        self.decoder.read(&mut raw).map_err(|e| damaged(path, &e))?;
        for (o, p) in out.chunks_exact_mut(channels).zip(raw.chunks_exact(planes)) {
            if pixel.alpha && p[planes - 1] != u8::MAX {
                return Err(Error::Data(format!("{}: is transparent in places; flatten it", path.display())));
            }
            if pixel.coloured {
                o.copy_from_slice(&p[..channels]);
            } else {
                o.fill(p[0]);
            }
        }
        Ok(())
    }
}

/// Of a JPEG that has its end marker, the bytes a pixel of what its decoder keeps to the end: coefficients, if they come in
/// several scans. The decoder would fill what is missing with grey and say nothing.
fn whole_jpeg(bytes: &[u8]) -> Option<u64> {
    let byte = |i: usize| bytes.get(i).copied();
    let mut at = 2;
    let (mut scan, mut several) = (false, false);
    let (mut parts, mut kept) = (0, 0);
    while let (Some(a), Some(b)) = (byte(at), byte(at + 1)) {
        match (a, b) {
            (0xff, 0xd9) => return Some(if several { kept } else { 0 }),
            // Fill bytes before a marker.
            (0xff, 0xff) => at += 1,
            // Stuffed bytes and restarts within a scan.
            (0xff, 0x00 | 0x01 | 0xd0..=0xd7) => at += 2,
            (0xff, marker) => {
                if matches!(marker, 0xc0..=0xc2) {
                    parts = byte(at + 9)?;
                    kept = coefficients(bytes.get(at + 10..at + 10 + 3 * usize::from(parts))?);
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

/// Bytes a pixel of 16-bit coefficients, by a frame's list of components: three bytes each, the second its samples across
/// and down. A single one is not subsampled, whatever it says.
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
            Err(Error::Data(format!("{}: is longer than {} MiB", path.display(), LONGEST >> 20)))
        }
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Err(Error::Data(format!("{}: has gone while the data set was read", path.display())))
        }
        Err(e) => Err(Error::io(path, e)),
    }
}

fn damaged(path: &Path, e: &str) -> Error {
    Error::Data(format!("{}: is damaged or cut short: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PIL writes is read as PIL reads it: PNG exactly, JPEG within the rounding of its transforms.
    #[test]
    fn pictures_are_those_of_pil() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/tests/pictures");
        let read_rgb = |name: &str| {
            let (size, pixels) = rgb(&folder.join(name)).unwrap();
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
