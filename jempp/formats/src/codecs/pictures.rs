//! BMP, WebP and TIFF, by the `image` crate's decoders.
//!
//! Invariant: what a decoder may allocate is bounded by the caller's limit.

use super::{ANIMATION, Decoder, File, Format, Orientation, Pixel, failed};
use image::codecs::{bmp::BmpDecoder, tiff::TiffDecoder, webp::WebPDecoder};
use image::{ColorType, ImageDecoder, Limits};
use std::io::Cursor;

/// A decoder of one of the formats.
pub(super) type Boxed<'a> = Box<dyn ImageDecoder + 'a>;

/// Reads the header of a file; the decoder may allocate `limit` bytes.
pub(super) fn decoder(format: Format, bytes: &[u8], limit: u64) -> Result<Decoder<'_>, String> {
    let from = Cursor::new(bytes);
    let said = |e: image::ImageError| failed(&format!("{format:?}"), e);
    let mut decoder: Boxed<'_> = match format {
        Format::Bmp => Box::new(BmpDecoder::new(from).map_err(said)?),
        Format::WebP => {
            chunks_fit(bytes)?;
            let decoder = WebPDecoder::new(from).map_err(said)?;
            if decoder.has_animation() {
                return Err(ANIMATION.into());
            }
            Box::new(decoder)
        }
        _ => Box::new(TiffDecoder::new(from).map_err(said)?),
    };
    let (w, h) = decoder.dimensions();
    let (coloured, alpha, deep) = match decoder.color_type() {
        ColorType::L8 => (false, false, false),
        ColorType::La8 => (false, true, false),
        ColorType::Rgb8 => (true, false, false),
        ColorType::Rgba8 => (true, true, false),
        ColorType::L16 => (false, false, true),
        ColorType::La16 => (false, true, true),
        ColorType::Rgb16 => (true, false, true),
        ColorType::Rgba16 => (true, true, true),
        other => return Err(failed(&format!("{format:?}"), format!("pixels of type {other:?}"))),
    };
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(limit);
    decoder.set_limits(limits).map_err(said)?;
    let orientation = decoder.orientation().map_err(said)?;
    let orientation = Orientation::new(u32::from(orientation.to_exif()));
    let pixel = Pixel { coloured, alpha, deep };
    Ok(Decoder { size: [h, w], pixel, orientation, file: File::Other(decoder) })
}

/// Checks that the chunks of a RIFF file end inside it: the decoder reserves memory for the length that a chunk declares.
fn chunks_fit(bytes: &[u8]) -> Result<(), String> {
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some((head, body)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if length > body.len() {
            return Err(format!(
                "a chunk of {length} bytes begins {} bytes before the end of the file",
                body.len()
            ));
        }
        // Chunks begin at even positions.
        rest = body.get(length + length % 2..).unwrap_or_default();
    }
    Ok(())
}

/// Decodes to `out`; 16 bits become big-endian.
pub(super) fn read(decoder: Boxed<'_>, pixel: Pixel, out: &mut [u8]) -> Result<(), String> {
    decoder.read_image_boxed(out).map_err(|e| failed("it", e))?;
    if pixel.deep {
        for b in out.as_chunks_mut::<2>().0 {
            *b = u16::from_ne_bytes(*b).to_be_bytes();
        }
    }
    Ok(())
}
