//! Image codecs: the only module that calls the decoder and encoder libraries.
//!
//! Invariants: input is untrusted. Reading a header allocates nothing for the pixels, which are decoded into a buffer
//! that the caller allocates after checking the size. Palettes and depths below 8 bits are expanded; nothing else is
//! converted here (`upright` does the rest), and colour profiles are ignored. Errors are strings, to which the caller adds the
//! file's name.

#[cfg(feature = "pictures")]
mod pictures;
mod upright;
mod write;

#[cfg(test)]
mod tests;

use core::fmt::Display;
use std::io::Cursor;
pub use upright::{Fault, Orientation, Upright};
pub use write::{Animation, Picture, encode_png};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// A format that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
    /// GIF of a single frame.
    Gif,
    /// BMP.
    #[cfg(feature = "pictures")]
    Bmp,
    /// WebP of a single frame.
    #[cfg(feature = "pictures")]
    WebP,
    /// TIFF, of which the first page is decoded.
    #[cfg(feature = "pictures")]
    Tiff,
}

/// Endings of the names of image files, in lower case.
#[cfg(feature = "pictures")]
pub const EXTENSIONS: &[&str] = &["png", "jpg", "jpeg", "gif", "bmp", "webp", "tif", "tiff"];
/// The formats that can be decoded, for messages.
#[cfg(feature = "pictures")]
pub const SUPPORTED: &str = "supported are PNG, JPEG, GIF, BMP, WebP and TIFF";
/// Endings of the names of image files, in lower case.
#[cfg(not(feature = "pictures"))]
pub const EXTENSIONS: &[&str] = &["png", "jpg", "jpeg", "gif"];
/// The formats that can be decoded, for messages.
#[cfg(not(feature = "pictures"))]
pub const SUPPORTED: &str = "supported are PNG, JPEG and GIF";

/// Whether the name of a file has the ending of an image file.
pub fn is_named(path: &std::path::Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    EXTENSIONS.contains(&ending.as_str())
}

/// Magic bytes of image formats, and the names of the formats.
const MAGIC: [(&[u8], &str); 20] = [
    (b"\x89PNG\r\n\x1a\n", "Png"),
    (b"\xff\xd8\xff", "Jpeg"),
    (b"GIF89a", "Gif"),
    (b"GIF87a", "Gif"),
    (b"MM\x00*", "Tiff"),
    (b"II*\x00", "Tiff"),
    (b"DDS ", "Dds"),
    (b"BM", "Bmp"),
    (b"\x00\x00\x01\x00", "Ico"),
    (b"#?RADIANCE", "Hdr"),
    (b"\x76\x2f\x31\x01", "OpenExr"),
    (b"qoif", "Qoi"),
    (b"P1", "Pnm"),
    (b"P2", "Pnm"),
    (b"P3", "Pnm"),
    (b"P4", "Pnm"),
    (b"P5", "Pnm"),
    (b"P6", "Pnm"),
    (b"P7", "Pnm"),
    (b"farbfeld", "Farbfeld"),
];

/// The name of the format that the magic bytes indicate, whether or not it can be decoded.
pub fn name(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Some("WebP");
    }
    if bytes.starts_with(b"\0\0") && bytes.get(4..12) == Some(b"ftypavif") {
        return Some("Avif");
    }
    MAGIC.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, name)| *name)
}

impl Format {
    /// The format that the magic bytes indicate, if it can be decoded.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match name(bytes)? {
            "Png" => Some(Self::Png),
            "Jpeg" => Some(Self::Jpeg),
            "Gif" => Some(Self::Gif),
            #[cfg(feature = "pictures")]
            "Bmp" => Some(Self::Bmp),
            #[cfg(feature = "pictures")]
            "WebP" => Some(Self::WebP),
            #[cfg(feature = "pictures")]
            "Tiff" => Some(Self::Tiff),
            _ => None,
        }
    }
}

/// Layout of a decoded pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pixel {
    /// RGB rather than grey.
    pub coloured: bool,
    /// Whether an alpha channel follows.
    pub alpha: bool,
    /// 16 bits per channel, big-endian, rather than 8.
    pub deep: bool,
}

impl Pixel {
    /// Channels, including alpha.
    pub fn channels(self) -> usize {
        (if self.coloured { 3 } else { 1 }) + usize::from(self.alpha)
    }

    /// Bytes per pixel.
    pub fn bytes(self) -> usize {
        self.channels() * (1 + usize::from(self.deep))
    }
}

/// A decoder that has read the header of an image file.
pub struct Decoder<'a> {
    /// Height and width.
    pub size: [u32; 2],
    /// Layout of the decoded pixels.
    pub pixel: Pixel,
    /// How they are turned for display.
    pub orientation: Orientation,
    file: File<'a>,
}

enum File<'a> {
    Png(Box<png::Reader<Cursor<&'a [u8]>>>),
    Jpeg(&'a [u8], ColorSpace),
    Gif(Box<gif::Decoder<&'a [u8]>>, u64),
    #[cfg(feature = "pictures")]
    Other(pictures::Boxed<'a>),
}

impl<'a> Decoder<'a> {
    /// Reads the header. `limit` bounds the bytes that the decoder may allocate for metadata (PNG), for a frame (GIF), and
    /// for everything (BMP, WebP, TIFF).
    ///
    /// # Errors
    /// A message that says why the file cannot be decoded.
    pub fn new(format: Format, bytes: &'a [u8], limit: u64) -> Result<Self, String> {
        match format {
            Format::Png => png(bytes, limit),
            Format::Jpeg => jpeg(bytes),
            Format::Gif => gif(bytes, limit),
            #[cfg(feature = "pictures")]
            Format::Bmp | Format::WebP | Format::Tiff => pictures::decoder(format, bytes, limit),
        }
    }

    /// Size of the decoded image in bytes.
    pub fn total(&self) -> u64 {
        u64::from(self.size[0]) * u64::from(self.size[1]) * self.pixel.bytes() as u64
    }

    /// Decodes into `out`, which must be [`Decoder::total`] zero bytes.
    ///
    /// # Errors
    /// A message that says why the file cannot be decoded.
    pub fn read(self, out: &mut [u8]) -> Result<(), String> {
        if out.len() as u64 != self.total() {
            return Err(format!("a buffer of {} bytes for {} bytes of pixels", out.len(), self.total()));
        }
        match self.file {
            File::Png(mut reader) => reader.next_frame(out).map(drop).map_err(|e| failed("Png", e)),
            File::Jpeg(bytes, space) => {
                let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), lenient(space));
                decoder.decode_into(out).map_err(|e| failed("Jpeg", e))
            }
            File::Gif(reader, limit) => first_frame(*reader, limit, self.size, out),
            #[cfg(feature = "pictures")]
            File::Other(decoder) => pictures::read(decoder, self.pixel, out),
        }
    }
}

/// Why an animation is not read.
const ANIMATION: &str = "it is an animation: save the frame that is wanted as a PNG";

fn failed(format: &str, e: impl Display) -> String {
    format!("Format error decoding {format}: {e}")
}

fn png(bytes: &[u8], limit: u64) -> Result<Decoder<'_>, String> {
    let limits = png::Limits { bytes: usize::try_from(limit).unwrap_or(usize::MAX) };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(false);
    // Expands palettes to RGB, and 1 to 4 bits to 8.
    decoder.set_transformations(png::Transformations::EXPAND);
    let reader = decoder.read_info().map_err(|e| failed("Png", e))?;
    let (w, h) = reader.info().size();
    let (color, depth) = reader.output_color_type();
    use png::ColorType::{Grayscale, GrayscaleAlpha, Rgb, Rgba};
    let (coloured, alpha) = match color {
        Grayscale => (false, false),
        GrayscaleAlpha => (false, true),
        Rgb => (true, false),
        Rgba => (true, true),
        other => return Err(format!("The decoder leaves {other:?} as it is")),
    };
    let deep = match depth {
        png::BitDepth::Eight => false,
        png::BitDepth::Sixteen => true,
        other => return Err(format!("The decoder leaves {other:?} bits as they are")),
    };
    let pixel = Pixel { coloured, alpha, deep };
    // Wherever it is: the decoder would only know what precedes the pixels.
    let orientation = chunk(bytes, b"eXIf").map_or(Orientation::NORMAL, Orientation::of_exif);
    Ok(Decoder { size: [h, w], pixel, orientation, file: File::Png(Box::new(reader)) })
}

/// The content of the first chunk of a PNG with this name.
fn chunk<'a>(bytes: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    let mut at = 8;
    loop {
        let head = bytes.get(at..at + 8)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let end = (at + 8).checked_add(length)?;
        if head[4..] == *name {
            return bytes.get(at + 8..end);
        }
        at = end.checked_add(4)?;
    }
}

/// Options for damaged but readable files, without a limit on the size, decoding to the given colour space.
fn lenient(space: ColorSpace) -> DecoderOptions {
    let options = DecoderOptions::default().set_strict_mode(false).set_max_width(usize::MAX);
    options.set_max_height(usize::MAX).jpeg_set_out_colorspace(space)
}

fn jpeg(bytes: &[u8]) -> Result<Decoder<'_>, String> {
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), lenient(ColorSpace::RGB));
    decoder.decode_headers().map_err(|e| failed("Jpeg", e))?;
    let (Some((w, h)), Some(space)) = (decoder.dimensions(), decoder.input_colorspace()) else {
        return Err(failed("Jpeg", "it has no header"));
    };
    let [Ok(w), Ok(h)] = [w, h].map(u32::try_from) else {
        return Err(failed("Jpeg", "it is too large"));
    };
    // Other colour spaces, such as CMYK, are converted to RGB.
    let (space, coloured, alpha) = match space {
        ColorSpace::Luma => (space, false, false),
        ColorSpace::LumaA => (space, false, true),
        ColorSpace::RGBA => (space, true, true),
        _ => (ColorSpace::RGB, true, false),
    };
    let pixel = Pixel { coloured, alpha, deep: false };
    let orientation = decoder.exif().map_or(Orientation::NORMAL, |exif| Orientation::of_exif(exif));
    Ok(Decoder { size: [h, w], pixel, orientation, file: File::Jpeg(bytes, space) })
}

fn gif(bytes: &[u8], limit: u64) -> Result<Decoder<'_>, String> {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let reader = options.read_info(bytes).map_err(|e| failed("Gif", e))?;
    let size = [u32::from(reader.height()), u32::from(reader.width())];
    let pixel = Pixel { coloured: true, alpha: true, deep: false };
    let orientation = Orientation::NORMAL;
    Ok(Decoder { size, pixel, orientation, file: File::Gif(Box::new(reader), limit) })
}

/// Decodes the first frame of a GIF to its position on the canvas as RGBA; the rest of the canvas stays transparent.
fn first_frame(
    mut reader: gif::Decoder<&[u8]>,
    limit: u64,
    [height, width]: [u32; 2],
    out: &mut [u8],
) -> Result<(), String> {
    let frame = reader.next_frame_info().map_err(|e| failed("Gif", e))?;
    let Some(frame) = frame else { return Err("The end of the image has been reached".into()) };
    let [left, top, w, h] = [frame.left, frame.top, frame.width, frame.height].map(usize::from);
    let bytes = w * h * 4;
    if bytes as u64 > limit {
        return Err("Memory limit exceeded".into());
    }
    let mut pixels = vec![0; bytes];
    reader.read_into_buffer(&mut pixels).map_err(|e| failed("Gif", e))?;
    if let Ok(Some(_)) = reader.next_frame_info() {
        return Err(ANIMATION.into());
    }
    out.fill(0);
    let (height, width) = (height as usize, width as usize);
    let visible = w.min(width.saturating_sub(left)) * 4;
    if visible == 0 {
        return Ok(());
    }
    for (row, y) in pixels.chunks_exact(w * 4).zip(top..height) {
        out[(y * width + left) * 4..][..visible].copy_from_slice(&row[..visible]);
    }
    Ok(())
}
