//! Image files as 8-bit grey or RGB pixels the right way up: the one rule by which data sets and predictions read them.
//!
//! Invariants: pixels are turned as EXIF says; 16 bits are rounded to 8; an image that is not opaque is an error. Nothing else
//! is converted. At most two copies of the image are in memory.

use super::{Decoder, Pixel};

/// How stored pixels are turned and mirrored for display: EXIF's orientation, 1 to 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orientation(u8);

impl Orientation {
    /// Pixels are stored as they are displayed.
    pub const NORMAL: Self = Self(1);

    /// EXIF's number; anything but 2 to 8 is [`Orientation::NORMAL`].
    pub fn new(number: u32) -> Self {
        if (2..=8).contains(&number) { Self(number as u8) } else { Self::NORMAL }
    }

    /// The orientation in EXIF data, which has the structure of a TIFF file; normal if it says none or cannot be parsed.
    pub fn of_exif(exif: &[u8]) -> Self {
        find_tag(exif).map_or(Self::NORMAL, Self::new)
    }

    /// Whether height and width change places.
    pub fn swaps(self) -> bool {
        self.0 >= 5
    }

    /// Where the pixel in row `y` and column `x` of the displayed image is in the stored one of `[h, w]` pixels.
    fn stored(self, y: usize, x: usize, [h, w]: [usize; 2]) -> [usize; 2] {
        match self.0 {
            2 => [y, w - 1 - x],
            3 => [h - 1 - y, w - 1 - x],
            4 => [h - 1 - y, x],
            5 => [x, y],
            6 => [h - 1 - x, y],
            7 => [h - 1 - x, w - 1 - y],
            8 => [x, w - 1 - y],
            _ => [y, x],
        }
    }
}

/// The value of the tag `Orientation` in the first directory of EXIF data.
fn find_tag(exif: &[u8]) -> Option<u32> {
    const ORIENTATION: u32 = 0x0112;
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let big = match exif.get(..4)? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let number = |at: usize, bytes: usize| {
        let found = exif.get(at..at.checked_add(bytes)?)?;
        let join = |n: u32, b: &u8| n << 8 | u32::from(*b);
        Some(if big { found.iter().fold(0, join) } else { found.iter().rev().fold(0, join) })
    };
    let start = number(4, 4)? as usize;
    let entries = number(start, 2)? as usize;
    let entry = (0..entries).map(|i| start + 2 + 12 * i).find(|at| number(*at, 2) == Some(ORIENTATION))?;
    number(entry + 8, 2)
}

/// An image of 8 bits per channel, the right way up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upright {
    /// Height and width.
    pub size: [usize; 2],
    /// RGB rather than grey.
    pub coloured: bool,
    /// H×W×3 or H×W.
    pub pixels: Vec<u8>,
}

/// Why an image cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file is damaged.
    Damaged(String),
    /// The pixel in this row and column is not opaque.
    Transparent([usize; 2]),
}

impl Decoder<'_> {
    /// Height and width the right way up.
    pub fn upright_size(&self) -> [u32; 2] {
        let [h, w] = self.size;
        if self.orientation.swaps() { [w, h] } else { [h, w] }
    }

    /// Whether the decoded bytes are the pixels of [`Decoder::upright`] without any conversion.
    pub fn is_upright(&self) -> bool {
        self.orientation == Orientation::NORMAL && !self.pixel.alpha && !self.pixel.deep
    }

    /// Decodes the image to 8-bit grey or RGB, the right way up. The caller has checked that there is memory for twice
    /// [`Decoder::total`].
    ///
    /// # Errors
    /// [`Fault`].
    pub fn upright(self) -> Result<Upright, Fault> {
        let (size, pixel, turn) = (self.upright_size(), self.pixel, self.orientation);
        let (plain, [h, w]) = (self.is_upright(), self.size.map(|n| n as usize));
        let mut raw = vec![0; self.total() as usize];
        self.read(&mut raw).map_err(Fault::Damaged)?;
        let (size, coloured) = (size.map(|n| n as usize), pixel.coloured);
        if plain {
            return Ok(Upright { size, coloured, pixels: raw });
        }
        let (bytes, channels) = (pixel.bytes(), if coloured { 3 } else { 1 });
        let mut pixels = Vec::with_capacity(h * w * channels);
        for y in 0..size[0] {
            for x in 0..size[1] {
                let [sy, sx] = turn.stored(y, x, [h, w]);
                let stored = &raw[(sy * w + sx) * bytes..][..bytes];
                if pixel.alpha && !opaque(stored, pixel) {
                    return Err(Fault::Transparent([y, x]));
                }
                match pixel.deep {
                    true => pixels.extend(stored.chunks_exact(2).take(channels).map(|b| byte([b[0], b[1]]))),
                    false => pixels.extend_from_slice(&stored[..channels]),
                }
            }
        }
        Ok(Upright { size, coloured, pixels })
    }
}

/// Whether the alpha channel of a pixel is at its largest value.
fn opaque(stored: &[u8], pixel: Pixel) -> bool {
    let alpha = if pixel.deep { stored.len() - 2 } else { stored.len() - 1 };
    stored[alpha..].iter().all(|b| *b == u8::MAX)
}

/// A big-endian value of 16 bits, rounded to 8.
fn byte(wide: [u8; 2]) -> u8 {
    ((u32::from(u16::from_be_bytes(wide)) + 128) / 257) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codecs::Format;
    use image::{DynamicImage, GrayImage, ImageFormat, Luma};

    fn exif(big: bool, number: u16) -> Vec<u8> {
        let two = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let four = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut out = if big { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
        out.extend(four(8));
        out.extend(two(2));
        // Another entry first: the width.
        out.extend([&two(0x0100)[..], &two(4), &four(1), &four(77)].concat());
        out.extend([&two(0x0112)[..], &two(3), &four(1), &two(number), &two(0)].concat());
        out.extend(four(0));
        out
    }

    /// The chunk `eXIf` of a PNG, in front of its end.
    fn with_exif(png: &[u8], exif: &[u8]) -> Vec<u8> {
        let content = [&b"eXIf"[..], exif].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&content);
        let chunk = [&(exif.len() as u32).to_be_bytes()[..], &content, &crc.sum().to_be_bytes()].concat();
        let at = png.len() - 12;
        [&png[..at], &chunk, &png[at..]].concat()
    }

    #[test]
    fn every_orientation_is_that_of_the_image_crate() {
        let grey = GrayImage::from_fn(5, 3, |x, y| Luma([(y * 5 + x) as u8 * 9]));
        let mut png = std::io::Cursor::new(Vec::new());
        grey.write_to(&mut png, ImageFormat::Png).unwrap();
        for number in 0..=9 {
            for big in [true, false] {
                let bytes = with_exif(png.get_ref(), &exif(big, number));
                let decoder = Decoder::new(Format::Png, &bytes, 1 << 16).unwrap();
                let mut want = DynamicImage::from(grey.clone());
                if let Some(o) = image::metadata::Orientation::from_exif(number as u8) {
                    want.apply_orientation(o);
                }
                let size = [want.height(), want.width()];
                assert_eq!(decoder.upright_size(), size, "{number}");
                let upright = decoder.upright().unwrap();
                assert_eq!((upright.size, upright.coloured), (size.map(|n| n as usize), false));
                assert_eq!(upright.pixels, want.as_bytes(), "{number}");
            }
        }
    }

    #[test]
    fn foreign_or_cut_exif_is_normal() {
        let whole = exif(true, 6);
        assert_eq!(Orientation::of_exif(&[b"Exif\0\0", &whole[..]].concat()), Orientation(6));
        for n in 0..30 {
            assert_eq!(Orientation::of_exif(&whole[..n]), Orientation::NORMAL, "{n}");
        }
        let mut far = whole.clone();
        far[4..8].fill(255);
        assert_eq!(Orientation::of_exif(&far), Orientation::NORMAL);
        assert_eq!(Orientation::of_exif(b"neither one nor the other"), Orientation::NORMAL);
    }

    #[test]
    fn sixteen_bits_are_rounded_and_alpha_must_be_opaque() {
        for v in 0..=255u8 {
            assert_eq!(byte([v, v]), v);
        }
        assert_eq!([[0, 128], [0, 129], [255, 126], [0xff, 0x80]].map(byte), [0, 1, 254, 255]);
        let read = |image: DynamicImage| {
            let mut png = std::io::Cursor::new(Vec::new());
            image.write_to(&mut png, ImageFormat::Png).unwrap();
            Decoder::new(Format::Png, png.get_ref(), 1 << 16).unwrap().upright()
        };
        let deep =
            image::ImageBuffer::from_fn(2, 1, |x, _| image::Rgba([257 * 7, 0, 65_535, 65_535 - x as u16]));
        assert_eq!(read(deep.clone().into()), Err(Fault::Transparent([0, 1])));
        let opaque = image::ImageBuffer::from_fn(1, 1, |_, _| image::Rgba([257 * 7, 0, 65_535, 65_535u16]));
        let want = Upright { size: [1, 1], coloured: true, pixels: vec![7, 0, 255] };
        assert_eq!(read(opaque.into()), Ok(want));
    }
}
