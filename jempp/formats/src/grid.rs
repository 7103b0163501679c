//! Grids of images as PNG files, and animated grids as GIF files.

use crate::codecs::{Animation, Picture, encode_png};
use crate::error::{Error, Result};
use crate::files::write_atomic;
use std::io;
use std::path::Path;

/// Images are enlarged by an integer factor until their shorter side has at least this many pixels.
const LEAST_SIDE: usize = 40;
/// Pixels between images and around them.
const GAP: usize = 2;
/// Colour of the gaps: light, so that black images stand out.
const BACKGROUND: [u8; 3] = [240, 240, 236];
/// Largest side of a grid in pixels.
const MOST_SIDE: usize = 65_000;
/// Duration of a frame of an animation, and of its last one, in hundredths of a second.
const FRAME: u16 = 10;
const LAST_FRAME: u16 = 150;

/// Arranges images (N×H×W×C of `size` = [H, W, C], in [−1, 1], C = 1 or 3) row by row in a grid of `columns`.
///
/// Values outside [−1, 1] are clipped. Images are enlarged by an integer factor to at least 40 pixels per side. Unused
/// cells of the last row stay empty.
///
/// # Errors
/// [`Error::Data`] when there is no image, sizes disagree, C is neither 1 nor 3, a value is NaN, or the grid would
/// exceed 65,000 pixels per side.
pub(crate) fn render_grid(images: &[f32], size: [usize; 3], columns: usize) -> Result<Picture> {
    let pixels = pixels_of(size);
    if pixels == 0 || images.is_empty() || !images.len().is_multiple_of(pixels) {
        let n = images.len();
        return Err(Error::Data(format!(
            "{n} values of size {size:?} cannot form a grid of {columns} columns"
        )));
    }
    let cells: Vec<Option<&[f32]>> = images.chunks_exact(pixels).map(Some).collect();
    render_cells(&cells, size, columns)
}

/// Arranges images like [`render_grid`]; a cell that is `None` stays blank.
///
/// # Errors
/// Those of [`render_grid`].
pub(crate) fn render_cells(cells: &[Option<&[f32]>], size: [usize; 3], columns: usize) -> Result<Picture> {
    let ([h, w, c], pixels) = (size, pixels_of(size));
    let whole = cells.iter().flatten().all(|image| image.len() == pixels);
    if pixels == 0 || columns == 0 || cells.is_empty() || !whole || (c != 1 && c != 3) {
        let n = cells.len();
        return Err(Error::Data(format!(
            "{n} images of size {size:?} cannot form a grid of {columns} columns"
        )));
    }
    let scale = LEAST_SIDE.div_ceil(h.min(w)).max(1);
    let columns = columns.min(cells.len());
    let side = |places: usize, length: usize| match places.checked_mul(length * scale + GAP) {
        Some(s) if s + GAP <= MOST_SIDE => Ok((s + GAP) as u32),
        _ => Err(Error::Data(format!("{places} images of {length}·{scale} pixels are too large for a grid"))),
    };
    let mut out = Picture::filled([side(cells.len().div_ceil(columns), h)?, side(columns, w)?], BACKGROUND);
    for (i, image) in cells.iter().enumerate().filter_map(|(i, image)| Some((i, (*image)?))) {
        if let Some(at) = image.iter().position(|v| v.is_nan()) {
            return Err(Error::Data(format!("image {i} contains a NaN at value {at}")));
        }
        let left = GAP + (i % columns) * (w * scale + GAP);
        let top = GAP + (i / columns) * (h * scale + GAP);
        for (y, x) in (0..h * scale).flat_map(|y| (0..w * scale).map(move |x| (y, x))) {
            let at = &image[((y / scale) * w + x / scale) * c..][..c];
            let colour = if c == 3 { [at[0], at[1], at[2]] } else { [at[0]; 3] };
            out.set((top + y) as u32, (left + x) as u32, colour.map(byte));
        }
    }
    Ok(out)
}

fn pixels_of([h, w, c]: [usize; 3]) -> usize {
    h.checked_mul(w).and_then(|p| p.checked_mul(c)).unwrap_or(0)
}

/// Writes images (N×H×W×C of `size` = [H, W, C], in [−1, 1], C = 1 or 3) as a PNG grid of `columns`, row by row,
/// atomically; an existing file is replaced. Values outside [−1, 1] are clipped.
///
/// # Errors
/// [`Error::Data`] when there is no image, sizes disagree, C is neither 1 nor 3, a value is NaN, or the grid would exceed
/// 65,000 pixels per side; [`Error::Io`].
pub fn save_grid(path: &Path, images: &[f32], size: [usize; 3], columns: usize) -> Result<()> {
    write_png(path, &render_grid(images, size, columns)?)
}

/// Writes an image (H×W×C of `size` = [H, W, C], in [−1, 1], C = 1 or 3) as a PNG file of its own size, grey or coloured, atomically.
/// Values outside [−1, 1] are clipped.
///
/// # Errors
/// [`Error::Data`] when its size is another, C is neither 1 nor 3, or a value is NaN; [`Error::Io`].
pub fn write_image(path: &Path, image: &[f32], size: [usize; 3]) -> Result<()> {
    let [h, w, c] = size;
    if image.len() != pixels_of(size) || (c != 1 && c != 3) {
        return Err(Error::Data(format!("{} values are no image of size {size:?}", image.len())));
    }
    if let Some(at) = image.iter().position(|v| v.is_nan()) {
        return Err(Error::Data(format!("the image contains a NaN at value {at}")));
    }
    let bytes: Vec<u8> = image.iter().map(|v| byte(*v)).collect();
    let fail = |e: String| Error::io(path, io::Error::other(e));
    let side = |n: usize| u32::try_from(n).map_err(|e| fail(e.to_string()));
    let png = encode_png([side(h)?, side(w)?], c == 3, &bytes).map_err(fail)?;
    write_atomic(path, |out| out.write_all(&png))
}

/// Writes a PNG grid like [`save_grid`]; a cell that is `None` stays blank.
///
/// # Errors
/// Those of [`save_grid`].
pub fn save_cells(path: &Path, cells: &[Option<&[f32]>], size: [usize; 3], columns: usize) -> Result<()> {
    write_png(path, &render_cells(cells, size, columns)?)
}

/// Writes one grid per frame, like [`save_grid`], to a GIF that loops forever; the last frame is shown longer.
///
/// # Errors
/// Those of [`save_grid`]; also if there are no frames.
pub fn save_animation(path: &Path, frames: &[Vec<f32>], size: [usize; 3], columns: usize) -> Result<()> {
    let fail = |e: String| Error::io(path, io::Error::other(e));
    let mut animation: Option<Animation> = None;
    for (i, frame) in frames.iter().enumerate() {
        let grid = render_grid(frame, size, columns)?;
        let open = match animation.take() {
            Some(open) => open,
            None => Animation::new(grid.size()).map_err(fail)?,
        };
        let stay = if i + 1 == frames.len() { LAST_FRAME } else { FRAME };
        animation.insert(open).add(&grid, stay).map_err(fail)?;
    }
    let Some(animation) = animation else {
        return Err(Error::Data("an animation needs at least one frame".into()));
    };
    let bytes = animation.finish().map_err(fail)?;
    write_atomic(path, |w| w.write_all(&bytes))
}

fn write_png(path: &Path, grid: &Picture) -> Result<()> {
    let bytes = grid.to_png().map_err(|e| Error::io(path, io::Error::other(e)))?;
    write_atomic(path, |w| w.write_all(&bytes))
}

/// Converts a value in [−1, 1] to the nearest byte.
fn byte(v: f32) -> u8 {
    ((v.clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        // Five 8×8 images in three columns: 5-fold, 40 pixels each.
        let mut images = vec![-1.0; 5 * 64];
        images[4 * 64 + 8 + 2] = 1.0;
        let g = render_grid(&images, [8, 8, 1], 3).unwrap();
        assert_eq!(g.size(), [2 * 42 + 2, 3 * 42 + 2]);
        let at = |g: &Picture, x: u32, y: u32| g.pixel(y, x).unwrap();
        assert_eq!(at(&g, 0, 0), BACKGROUND);
        assert_eq!(at(&g, 2, 2), [0, 0, 0]);
        let (left, top) = (2 + 42, 2 + 42);
        for (x, y, white) in [(10, 5, true), (14, 9, true), (15, 9, false), (9, 5, false), (10, 4, false)] {
            let want = if white { 255 } else { 0 };
            assert_eq!(at(&g, left + x, top + y), [want; 3], "{x} {y}");
        }
        assert_eq!(at(&g, 2 + 84 + 10, top + 10), BACKGROUND);
        let blank = [Some(&images[..64]), None, Some(&images[256..])];
        let g = render_cells(&blank, [8, 8, 1], 2).unwrap();
        assert_eq!((at(&g, left, 2), at(&g, 2, 2)), (BACKGROUND, [0; 3]));
        assert_eq!(at(&g, 2 + 10, top + 5), [255; 3]);
        assert!(render_cells(&[Some(&images[..63])], [8, 8, 1], 1).is_err());
    }

    #[test]
    fn bytes_survive_floats_and_png() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.png");
        let images: Vec<f32> = (0..=255).cycle().take(2 * 16 * 16 * 3).map(crate::pixels::value).collect();
        save_grid(&path, &images, [16, 16, 3], 8).unwrap();
        let g = image::open(&path).unwrap().to_rgb8();
        assert_eq!(g.dimensions(), (2 * 50 + 2, 52));
        for i in 0..256u32 {
            let want = [0, 1, 2].map(|k| ((3 * i + k) % 256) as u8);
            assert_eq!(g.get_pixel(2 + (i % 16) * 3 + 1, 2 + (i / 16) * 3 + 1).0, want);
        }
    }

    #[test]
    fn animations_hold_every_frame_as_its_grid() {
        use image::AnimationDecoder;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gif");
        let frames: Vec<Vec<f32>> = (0..3)
            .map(|k| (0..4 * 64).map(|i| ((i * 7 + k * 50) % 201) as f32 / 100.0 - 1.0).collect())
            .collect();
        save_animation(&path, &frames, [8, 8, 1], 2).unwrap();
        let file = io::BufReader::new(std::fs::File::open(&path).unwrap());
        let got = image::codecs::gif::GifDecoder::new(file).unwrap().into_frames().collect_frames().unwrap();
        assert_eq!(got.len(), 3);
        for (got, want) in got.iter().zip(&frames) {
            let want = render_grid(want, [8, 8, 1], 2).unwrap();
            let opaque: Vec<u8> =
                want.bytes().as_chunks::<3>().0.iter().flat_map(|[r, g, b]| [*r, *g, *b, 255]).collect();
            assert!(*got.buffer().as_raw() == opaque);
        }
        let ms: Vec<u32> = got.iter().map(|f| f.delay().numer_denom_ms().0).collect();
        assert_eq!(ms, [100, 100, 1500]);
        assert!(save_animation(&path, &[], [8, 8, 1], 2).is_err());
        // With colour.
        save_animation(&path, &[vec![0.5; 4 * 192]], [8, 8, 3], 2).unwrap();
        assert_eq!(image::open(&path).unwrap().width(), 86);
    }

    #[test]
    fn invalid_grids_are_refused() {
        let text = |v: &[f32], s, n| render_grid(v, s, n).unwrap_err().to_string();
        assert!(text(&[0.0; 5], [2, 2, 1], 1).contains("5 values"));
        assert!(text(&[], [2, 2, 1], 1).contains("0 values"));
        assert!(text(&[0.0; 8], [2, 2, 2], 1).contains("[2, 2, 2]"));
        assert!(text(&[0.0; 4], [2, 2, 1], 0).contains("0 columns"));
        assert!(
            text(&[0.0, 0.0, 0.0, 0.0, f32::NAN, 0.0, 0.0, 0.0], [2, 2, 1], 1)
                .contains("image 1 contains a NaN")
        );
        assert!(text(&[0.0; 4000], [1, 1, 1], 4000).contains("too large"));
        assert_eq!(byte(9.0), 255);
        assert!(save_grid(Path::new("/no/such/a.png"), &[0.0; 4], [2, 2, 1], 1).is_err());
    }
}
