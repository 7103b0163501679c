//! Image files as float32 inputs of a model.
//!
//! Invariants: a file is untrusted: its size is checked before pixels are decoded, and memory for decoding is bounded.
//! Images are scaled or cropped only where that was asked for, and never lose colour or transparency.

use crate::codecs::{Decoder, Fault, Format, SUPPORTED};
use crate::error::{Error, Result};
use crate::kind;
use crate::pixels::value;
use crate::resize::Resize;
use crate::unpack::Unpack;
use std::path::Path;

/// Largest file in bytes.
const LONGEST: u64 = 1 << 30;
/// Memory limit for decoding: bytes per pixel of the expected image, plus a constant.
const BYTES_PER_PIXEL: u64 = 64;
const BYTES_MORE: u64 = 1 << 19;
/// The same for an image that is scaled: bytes per byte of the file, beside what any file may unpack to.
const BYTES_PER_BYTE: u64 = 64;

/// Reads an image file of `size` = [H, W, C], C = 1 or 3, as H×W×C values in [−1, 1]: the right way up, 16 bits rounded to 8,
/// as in a data set. Grey images are expanded to RGB; RGB images are accepted as grey if their channels are equal. Images of
/// another height or width are scaled by `resize`, whose size is that of `size`, or refused without it.
///
/// # Errors
/// [`Error::Data`] when there is no such file, its size differs, it is coloured but C is 1, or it is not opaque;
/// [`Error::Format`] when it is damaged or not an image; [`Error::Io`].
pub fn read_image(path: &Path, size: [usize; 3], resize: Option<Resize>) -> Result<Vec<f32>> {
    image_of(path, &read(path)?, size, resize)
}

/// Decodes the content of an image file, as [`read_image`] does. Error messages name it `path`.
///
/// # Errors
/// Those of [`read_image`].
pub fn image_of(path: &Path, bytes: &[u8], size: [usize; 3], resize: Option<Resize>) -> Result<Vec<f32>> {
    let [h, w, c] = size;
    let wrong = |why: String| Error::Data(format!("{}: {why}", path.display()));
    if c != 1 && c != 3 {
        return Err(wrong(format!("image files have 1 or 3 channels, the model takes {c}; use an .npz")));
    }
    let damaged = |e: String| Error::Format(format!("{}: {e}", path.display()));
    let limit = match resize {
        Some(_) => Unpack::default().allowed(bytes.len() as u64, BYTES_PER_BYTE),
        None => (h * w) as u64 * BYTES_PER_PIXEL + BYTES_MORE,
    };
    let format = Format::of(bytes)
        .ok_or_else(|| damaged(format!("is {}; {SUPPORTED}", kind::of(bytes).with_article())))?;
    let decoder = Decoder::new(format, bytes, limit).map_err(damaged)?;
    let found = decoder.upright_size();
    if resize.is_none() && found != [h, w].map(|n| n as u32) {
        let [fh, fw] = found;
        return Err(wrong(format!(
            "the image is {fh}×{fw} (height × width), the model takes {h}×{w}; --resize crop or squash scales it"
        )));
    }
    if decoder.total().saturating_mul(2) > limit.max(BYTES_MORE) {
        return Err(wrong(format!("of {}×{} pixels, it is too large to be scaled", found[0], found[1])));
    }
    let image = decoder.upright().map_err(|e| match e {
        Fault::Damaged(why) => damaged(why),
        Fault::Transparent([y, x]) => {
            wrong(format!("the pixel in row {y}, column {x} is transparent; flatten it"))
        }
    })?;
    let channels = if image.coloured { 3 } else { 1 };
    let pixels = match resize {
        Some(resize) => resize.apply(&image.pixels, image.size, channels),
        None => image.pixels,
    };
    match (channels, c) {
        (1, 3) => Ok(pixels.iter().flat_map(|p| [value(*p); 3]).collect()),
        (3, 1) => grey(&pixels, w, &wrong),
        _ => Ok(pixels.into_iter().map(value).collect()),
    }
}

/// The first channel of RGB pixels, which must have equal channels.
fn grey(pixels: &[u8], w: usize, wrong: &dyn Fn(String) -> Error) -> Result<Vec<f32>> {
    let pixels = pixels.as_chunks::<3>().0;
    if let Some(i) = pixels.iter().position(|p| p[0] != p[1] || p[1] != p[2]) {
        let (y, x) = (i / w, i % w);
        return Err(wrong(format!(
            "the pixel in row {y}, column {x} is coloured, but the model takes grey images; convert it first"
        )));
    }
    Ok(pixels.iter().map(|p| value(p[0])).collect())
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
    use crate::resize::{Filter, Fit};
    use image::{GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};

    #[test]
    fn bytes_become_the_values_of_a_data_set() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        GrayImage::from_fn(5, 4, |x, y| Luma([(y * 5 + x) as u8 * 12])).save(&path).unwrap();
        let want: Vec<f32> = (0..20).map(|i| value(i * 12)).collect();
        assert_eq!(read_image(&path, [4, 5, 1], None).unwrap(), want);
        let three: Vec<f32> = want.iter().flat_map(|v| [*v; 3]).collect();
        assert_eq!(read_image(&path, [4, 5, 3], None).unwrap(), three);
        RgbImage::from_fn(5, 4, |x, y| Rgb([(y * 5 + x) as u8 * 12; 3])).save(&path).unwrap();
        assert_eq!(read_image(&path, [4, 5, 1], None).unwrap(), want);
        RgbaImage::from_pixel(5, 4, Rgba([9, 8, 7, 255])).save(&path).unwrap();
        assert_eq!(read_image(&path, [4, 5, 3], None).unwrap()[..4], [9, 8, 7, 9].map(value));
        // 16 bits are rounded to 8, as in a data set.
        let deep = image::ImageBuffer::from_fn(5, 4, |x, y| Rgb([(9999 * x) as u16, 65_535, (3 * y) as u16]));
        deep.save(&path).unwrap();
        let round = |v: &u16| value((f32::from(*v) / 257.0).round() as u8);
        let want: Vec<f32> = deep.as_raw().iter().map(round).collect();
        assert_eq!(read_image(&path, [4, 5, 3], None).unwrap(), want);
    }

    #[test]
    fn other_sizes_are_scaled_if_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        GrayImage::from_fn(6, 4, |x, y| Luma([(y * 6 + x) as u8])).save(&path).unwrap();
        let resize = Resize { size: [2, 2], fit: Fit::Squash, filter: Filter::Box };
        assert_eq!(read_image(&path, [2, 2, 1], Some(resize)).unwrap(), [4, 7, 16, 19].map(value));
        let e = read_image(&path, [2, 2, 1], None).unwrap_err().to_string();
        assert!(e.contains("--resize crop"), "{e}");
    }

    #[test]
    fn images_that_need_conversion_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let said = |size| {
            let e = read_image(&path, size, None).unwrap_err();
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
