//! From bytes to the network's input: x = (u/255 − ½)/½, with crops, mirroring and noise in training.
//!
//! Invariant: what happens to the image at a position of a batch depends on (seed, stream, step, position) only.
//! Each position owns the same number of words of the random sequence, whatever is done with them.

use super::{Dataset, noise};
use crate::error::{Error, Result};
use engine::rng::{Philox, Stream};

/// Training augmentation, image by image: reflected border and random crop, mirroring, noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augment {
    /// Pixels of reflected border on each side (the edge itself is not repeated) before the crop to the old size.
    pub pad: usize,
    /// Whether to mirror left and right with probability ½.
    pub flip: bool,
    /// Standard deviation of the normal noise, in units of [−1, 1]; the sum is not clipped.
    pub sigma: f32,
}

/// The value in [−1, 1] of each byte, rounded to float32 after each operation, as `ToTensor` and `Normalize` do.
const VALUE: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut u = 0;
    while u < 256 {
        table[u] = (u as f32 / 255.0 - 0.5) / 0.5;
        u += 1;
    }
    table
};

/// The float in [−1, 1] of a byte: (u/255 − ½)/½.
pub fn value(byte: u8) -> f32 {
    VALUE[usize::from(byte)]
}

impl Augment {
    /// Writes the images `indices` of `set`, augmented, to `out` (n×H×W×C). Allocates nothing.
    ///
    /// `step` is the iteration. The same image twice in a batch is augmented differently.
    ///
    /// # Errors
    /// [`Error::Data`] when `out` has another length, there is no such image, or `pad` is not below the image's
    /// sides.
    pub fn batch(
        &self,
        set: &Dataset,
        indices: &[u32],
        seed: u64,
        stream: Stream,
        step: u32,
        out: &mut [f32],
    ) -> Result<()> {
        let [h, w, c] = set.size();
        if self.pad >= h.min(w) {
            let why = format!("a reflected border of {} pixels needs images larger than {h}×{w}", self.pad);
            return Err(Error::Data(why));
        }
        check_len(set, indices, out)?;
        let mut rng = Philox::new(seed, stream, step);
        for (i, image) in indices.iter().zip(out.chunks_exact_mut(set.pixels())) {
            let source = set.image(*i).ok_or_else(|| set.no_image(*i))?;
            let places = 2 * self.pad as u32 + 1;
            // Always four words, so that switching one thing off leaves the others as they were.
            let (dy, dx, mirror, _) = (rng.below(places), rng.below(places), rng.below(2), rng.below(1));
            let shift = [dy as isize - self.pad as isize, dx as isize - self.pad as isize];
            crop(source, [h, w, c], shift, self.flip && mirror == 1, image);
            if self.sigma > 0.0 {
                noise::add_normals(&mut rng, self.sigma, image);
            }
        }
        Ok(())
    }
}

/// Writes the images `indices` of `set`, as they are, to `out` (n×H×W×C, in [−1, 1]).
///
/// # Errors
/// [`Error::Data`] when `out` has another length or there is no such image.
pub fn plain_batch(set: &Dataset, indices: &[u32], out: &mut [f32]) -> Result<()> {
    check_len(set, indices, out)?;
    for (i, image) in indices.iter().zip(out.chunks_exact_mut(set.pixels())) {
        let source = set.image(*i).ok_or_else(|| set.no_image(*i))?;
        for (o, u) in image.iter_mut().zip(source) {
            *o = value(*u);
        }
    }
    Ok(())
}

fn check_len(set: &Dataset, indices: &[u32], out: &[f32]) -> Result<()> {
    if indices.len().checked_mul(set.pixels()) == Some(out.len()) {
        return Ok(());
    }
    let (n, size, m) = (indices.len(), set.size(), out.len());
    Err(Error::Data(format!("{n} images of size {size:?} do not fit {m} values")))
}

/// The window of `source`, continued by reflection, at offset `shift`; then mirrored if asked.
fn crop(source: &[u8], [h, w, c]: [usize; 3], shift: [isize; 2], mirror: bool, out: &mut [f32]) {
    for (y, row) in out.chunks_exact_mut(w * c).enumerate() {
        let from = &source[reflect(y as isize + shift[0], h) * w * c..][..w * c];
        for (x, pixel) in row.chunks_exact_mut(c).enumerate() {
            let x = if mirror { w - 1 - x } else { x };
            let x = reflect(x as isize + shift[1], w);
            for (o, u) in pixel.iter_mut().zip(&from[x * c..]) {
                *o = value(*u);
            }
        }
    }
}

/// The index in `0..n` that `i`, at most n − 1 outside, is the reflection of.
fn reflect(i: isize, n: usize) -> usize {
    let last = n as isize - 1;
    (last - (last - i.abs()).abs()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(n: usize, size: [usize; 3]) -> Dataset {
        let pixels: usize = size.iter().product();
        let images = (0..n * pixels).map(|i| (i * 7 % 251) as u8).collect();
        Dataset::new("x", size, 2, images, vec![1; n]).unwrap()
    }

    fn run(a: Augment, s: &Dataset, indices: &[u32], step: u32) -> Vec<f32> {
        let mut out = vec![0.0; indices.len() * s.pixels()];
        a.batch(s, indices, 5, Stream::AugmentLabelled, step, &mut out).unwrap();
        out
    }

    #[test]
    fn values_span_the_box() {
        assert_eq!((value(0), value(255)), (-1.0, 1.0));
        for u in 0..=255u8 {
            let exact = (f64::from(u) - 127.5) / 127.5;
            assert!((f64::from(value(u)) - exact).abs() < 1.3e-7, "{u}");
        }
    }

    #[test]
    fn reflection_does_not_repeat_the_edge() {
        let got: Vec<usize> = (-3..7).map(|i| reflect(i, 4)).collect();
        assert_eq!(got, [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]);
    }

    /// Against `numpy.pad(mode="reflect")` written out: every window of a 3×3 image with a border of 1.
    #[test]
    fn crops_are_windows_of_the_reflected_image() {
        let image: Vec<u8> = (0..9).collect();
        let padded = [[4u8, 3, 4, 5, 4], [1, 0, 1, 2, 1], [4, 3, 4, 5, 4], [7, 6, 7, 8, 7], [4, 3, 4, 5, 4]];
        for (dy, dx) in (0..3).flat_map(|y| (0..3).map(move |x| (y, x))) {
            for mirror in [false, true] {
                let mut out = [0.0; 9];
                crop(&image, [3, 3, 1], [dy as isize - 1, dx as isize - 1], mirror, &mut out);
                for (y, x) in (0..3).flat_map(|y| (0..3).map(move |x| (y, x))) {
                    let from = if mirror { 2 - x } else { x };
                    assert_eq!(out[y * 3 + x], value(padded[y + dy][from + dx]), "{dy} {dx} {y} {x}");
                }
            }
        }
    }

    #[test]
    fn nothing_switched_on_is_plain() {
        let s = set(5, [4, 6, 3]);
        let mut plain = vec![0.0; 3 * s.pixels()];
        plain_batch(&s, &[4, 0, 2], &mut plain).unwrap();
        assert_eq!(run(Augment { pad: 0, flip: false, sigma: 0.0 }, &s, &[4, 0, 2], 0), plain);
    }

    #[test]
    fn depends_on_position_not_on_neighbours() {
        let s = set(9, [8, 8, 1]);
        let a = Augment { pad: 2, flip: true, sigma: 0.1 };
        let p = s.pixels();
        let x = run(a, &s, &[3, 1, 7], 4);
        let y = run(a, &s, &[0, 1, 2, 8], 4);
        assert_eq!(x[p..2 * p], y[p..2 * p]);
        let z = run(a, &s, &[3, 3], 4);
        assert_ne!(z[..p], z[p..]);
        assert_ne!(run(a, &s, &[3], 5), z[..p]);
    }

    #[test]
    fn noise_is_added_to_the_same_crop_and_has_its_size() {
        let s = set(200, [8, 8, 1]);
        let all: Vec<u32> = (0..200).collect();
        let first = |sigma| run(Augment { pad: 1, flip: true, sigma }, &s, &[7], 0);
        let difference: Vec<f32> = first(0.5).iter().zip(first(0.0)).map(|(a, b)| a - b).collect();
        assert!(difference.iter().all(|d| d.abs() < 3.0 && *d != 0.0));
        let plain = run(Augment { pad: 0, flip: false, sigma: 0.0 }, &s, &all, 0);
        let noisy = run(Augment { pad: 0, flip: false, sigma: 0.5 }, &s, &all, 0);
        let square: f64 = noisy.iter().zip(&plain).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        assert!((square / plain.len() as f64 - 0.25).abs() < 0.01);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let s = set(2, [4, 4, 1]);
        let a = Augment { pad: 4, flip: false, sigma: 0.0 };
        let mut out = [0.0; 16];
        let text = |r: Result<()>| r.unwrap_err().to_string();
        let run = |a: Augment, i: &[u32], out: &mut [f32]| a.batch(&s, i, 0, Stream::Test, 0, out);
        assert!(text(run(a, &[0], &mut out)).contains("larger than 4×4"));
        let a = Augment { pad: 3, ..a };
        assert!(text(run(a, &[2], &mut out)).contains("index 2"));
        assert!(text(run(a, &[0, 1], &mut out)).contains("do not fit 16"));
        assert!(text(plain_batch(&s, &[9], &mut out)).contains("index 9"));
    }
}
