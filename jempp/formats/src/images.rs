//! Image files as float32 inputs of a model.
//!
//! Invariants: a file is untrusted: its size is checked before pixels are decoded, and memory for decoding is bounded.
//! Images are never scaled or cropped, and never lose colour or transparency.

use crate::codecs::{Decoder, Format, Pixel};
use crate::error::{Error, Result};
use crate::pixels::value;
use std::path::Path;

/// Largest file in bytes.
const LONGEST: u64 = 1 << 30;
/// Memory limit for decoding: bytes per pixel of the expected image, plus a constant.
const BYTES_PER_PIXEL: u64 = 64;
const BYTES_MORE: u64 = 1 << 19;

/// Reads a PNG, JPEG or GIF of `size` = [H, W, C], C = 1 or 3, as H×W×C values in [−1, 1]. Grey images are expanded
/// to RGB; RGB images are accepted as grey if their channels are equal.
///
/// # Errors
/// [`Error::Data`] when there is no such file, its size differs, it is coloured but C is 1, or it is not opaque;
/// [`Error::Format`] when it is damaged or not an image; [`Error::Io`].
pub fn read_image(path: &Path, size: [usize; 3]) -> Result<Vec<f32>> {
    image_of(path, &read(path)?, size)
}

/// Decodes the content of an image file, as [`read_image`] does. Error messages name it `path`.
///
/// # Errors
/// Those of [`read_image`].
pub fn image_of(path: &Path, bytes: &[u8], size: [usize; 3]) -> Result<Vec<f32>> {
    let [h, w, c] = size;
    let wrong = |why: String| Error::Data(format!("{}: {why}", path.display()));
    if c != 1 && c != 3 {
        return Err(wrong(format!("image files have 1 or 3 channels, the model takes {c}; use an .npz")));
    }
    let damaged = |e: String| Error::Format(format!("{}: {e}", path.display()));
    let limit = (h * w) as u64 * BYTES_PER_PIXEL + BYTES_MORE;
    let format = Format::of(bytes).ok_or_else(|| damaged("is not a PNG, JPEG or GIF".into()))?;
    let decoder = Decoder::new(format, bytes, limit).map_err(damaged)?;
    let [fh, fw] = decoder.size;
    if (fh as usize, fw as usize) != (h, w) {
        return Err(wrong(format!("the image is {fh}×{fw} (height × width), the model takes {h}×{w}")));
    }
    let pixel = decoder.pixel;
    let mut raw = vec![0; h * w * pixel.bytes()];
    decoder.read(&mut raw).map_err(damaged)?;
    let pixels = rgba(&raw, pixel);
    if let Some(i) = pixels.iter().position(|p| p[3] != 1.0) {
        return Err(wrong(format!(
            "the pixel in row {}, column {} is transparent; flatten it",
            i / w,
            i % w
        )));
    }
    if c == 3 {
        return Ok(pixels.iter().flat_map(|p| [p[0], p[1], p[2]]).collect());
    }
    if let Some(i) = pixels.iter().position(|p| p[0] != p[1] || p[1] != p[2]) {
        let (y, x) = (i / w, i % w);
        return Err(wrong(format!(
            "the pixel in row {y}, column {x} is coloured, but the model takes grey images; convert it first"
        )));
    }
    Ok(pixels.iter().map(|p| p[0]).collect())
}

/// Converts pixels to RGBA values in [−1, 1]; 8-bit channels exactly as in a data set.
fn rgba(raw: &[u8], pixel: Pixel) -> Vec<[f32; 4]> {
    let scaled = |bytes: &[u8]| match *bytes {
        [byte] => value(byte),
        [high, low, ..] => (f32::from(u16::from_be_bytes([high, low])) / f32::from(u16::MAX) - 0.5) / 0.5,
        [] => 0.0,
    };
    let width = 1 + usize::from(pixel.deep);
    let convert = |bytes: &[u8]| {
        let mut channels = bytes.chunks_exact(width).map(scaled);
        let mut next = || channels.next().unwrap_or(1.0);
        let first = next();
        let [green, blue] = if pixel.coloured { [next(), next()] } else { [first; 2] };
        [first, green, blue, next()]
    };
    raw.chunks_exact(pixel.bytes()).map(convert).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let about = std::fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::Data(format!("{}: there is no such file", path.display())),
        _ => Error::io(path, e),
    })?;
    if !about.is_file() || about.len() > LONGEST {
        return Err(Error::Data(format!("{}: not a file, or larger than 1 GiB", path.display())));
    }
    std::fs::read(path).map_err(|e| Error::io(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};

    #[test]
    fn bytes_become_the_values_of_a_data_set() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        GrayImage::from_fn(5, 4, |x, y| Luma([(y * 5 + x) as u8 * 12])).save(&path).unwrap();
        let want: Vec<f32> = (0..20).map(|i| value(i * 12)).collect();
        assert_eq!(read_image(&path, [4, 5, 1]).unwrap(), want);
        let three: Vec<f32> = want.iter().flat_map(|v| [*v; 3]).collect();
        assert_eq!(read_image(&path, [4, 5, 3]).unwrap(), three);
        RgbImage::from_fn(5, 4, |x, y| Rgb([(y * 5 + x) as u8 * 12; 3])).save(&path).unwrap();
        assert_eq!(read_image(&path, [4, 5, 1]).unwrap(), want);
        RgbaImage::from_pixel(5, 4, Rgba([9, 8, 7, 255])).save(&path).unwrap();
        assert_eq!(read_image(&path, [4, 5, 3]).unwrap()[..4], [9, 8, 7, 9].map(value));
        let deep = image::ImageBuffer::from_fn(5, 4, |x, y| Rgb([(9999 * x) as u16, 65_535, (3 * y) as u16]));
        deep.save(&path).unwrap();
        let scale = |v: &u16| (f32::from(*v) / 65_535.0 - 0.5) / 0.5;
        let want: Vec<f32> = deep.as_raw().iter().map(scale).collect();
        assert_eq!(read_image(&path, [4, 5, 3]).unwrap(), want);
    }

    #[test]
    fn images_that_need_conversion_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let said = |size| {
            let e = read_image(&path, size).unwrap_err();
            (e.exit_code(), e.to_string())
        };
        assert_eq!(said([4, 4, 1]).0, 3);
        RgbImage::from_pixel(5, 4, Rgb([1, 2, 3])).save(&path).unwrap();
        let (code, text) = said([8, 8, 3]);
        assert!(code == 3 && text.contains("is 4×5") && text.contains("takes 8×8"), "{text}");
        assert!(said([4, 5, 1]).1.contains("row 0, column 0 is coloured"));
        assert!(said([4, 5, 2]).1.contains("takes 2"));
        RgbaImage::from_pixel(5, 4, Rgba([1, 2, 3, 4])).save(&path).unwrap();
        assert!(said([4, 5, 3]).1.contains("transparent"));
        let png = std::fs::read(&path).unwrap();
        std::fs::write(&path, &png[..png.len() / 2]).unwrap();
        assert_eq!(said([4, 5, 3]).0, 6);
        std::fs::write(&path, b"no image").unwrap();
        assert_eq!(said([4, 5, 3]).0, 6);
    }
}
