//! Images to evaluate a model on: those of a data set, and synthetic out-of-distribution sets made from them.
//!
//! Invariant: an image depends only on its index, the data and the seed, not on how images are grouped when they are loaded.

use crate::dataset::{Dataset, plain_batch};
use crate::{eval_stream, streams};
use core::ops::Range;
use engine::rng::Philox;
use jempp_formats::{Error, Result};

/// Batch size of the published interpolation code: image i is averaged with image i + 100 of a shuffled order.
const BATCH: usize = 100;
/// Standard deviation of [`ImageKind::Gaussian`]; pixels are in [−1, 1].
const NOISE_STD: f32 = 0.5;
/// Standard deviation of the filter of [`ImageKind::Blurred`] as a fraction of the shorter side: 2 pixels of 32.
const BLUR: f32 = 1.0 / 16.0;

/// The images of a data set, or what is made from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// The images unchanged.
    Plain,
    /// The pixels of each image in a random order of its own; channels of a pixel stay together.
    Shuffled,
    /// Blurred by a Gaussian with a standard deviation of a sixteenth of the shorter side, borders mirrored.
    Blurred,
    /// Averages of two images: image i and image i + 100 of a shuffled order (consecutive batches in JEM's code). There are
    /// 100 fewer of them, or half as many if there are fewer than 200 images.
    Interpolated,
    /// Uniform noise in [−1, 1], as many as there are images.
    Uniform,
    /// Gaussian noise of mean 0 and standard deviation 0.5, clipped to [−1, 1], as many as there are images.
    Gaussian,
    /// A random constant colour per image, as many as there are images.
    Constant,
}

impl ImageKind {
    /// The synthetic out-of-distribution sets; those made from images first.
    pub const SYNTHETIC: [Self; 6] =
        [Self::Shuffled, Self::Interpolated, Self::Blurred, Self::Uniform, Self::Gaussian, Self::Constant];

    /// Its name in tables and result files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "data",
            Self::Shuffled => "shuffled pixels",
            Self::Blurred => "blurred",
            Self::Interpolated => "interpolated",
            Self::Uniform => "uniform noise",
            Self::Gaussian => "Gaussian noise",
            Self::Constant => "constant",
        }
    }
}

/// Images to evaluate a model on, which are made when they are loaded.
#[derive(Clone, Debug)]
pub struct EvalImages<'a> {
    set: &'a Dataset,
    indices: Vec<u32>,
    kind: ImageKind,
    seed: u64,
    noise: f32,
}

impl<'a> EvalImages<'a> {
    /// `kind` made from the images `indices` of `set`, plus Gaussian noise of standard deviation `noise`; pixels are in
    /// [−1, 1].
    ///
    /// # Errors
    /// [`Error::Data`] if there are no images, 2²⁴ or more, or too few to interpolate.
    pub fn new(set: &'a Dataset, indices: &[u32], kind: ImageKind, seed: u64, noise: f32) -> Result<Self> {
        let mut indices = indices.to_vec();
        if indices.is_empty() || indices.len() >= 1 << 24 {
            let n = indices.len();
            return Err(Error::Data(format!(
                "{n} images cannot be evaluated; there must be 1 to {}",
                (1 << 24) - 1
            )));
        }
        if kind == ImageKind::Interpolated {
            if indices.len() < 2 {
                return Err(Error::Data("interpolation needs at least 2 images, got 1".into()));
            }
            Philox::new(seed, streams::EVAL, eval_stream::INTERPOLATED).shuffle(&mut indices);
        }
        Ok(Self { set, indices, kind, seed, noise })
    }

    /// The name of their kind.
    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// Distance in the shuffled order of two images that are averaged.
    fn lag(&self) -> usize {
        BATCH.min(self.indices.len() / 2)
    }

    /// Number of images, at least 1.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match self.kind {
            ImageKind::Interpolated => self.indices.len() - self.lag(),
            _ => self.indices.len(),
        }
    }

    /// The images `range`, n×H×W×C in [−1, 1]; only added noise goes beyond.
    ///
    /// # Errors
    /// [`Error::Data`] if an index is out of range.
    pub fn load(&self, range: Range<usize>) -> Result<Vec<f32>> {
        let px = self.set.pixels();
        let mut out = vec![0.0; range.len() * px];
        if !matches!(self.kind, ImageKind::Uniform | ImageKind::Gaussian | ImageKind::Constant) {
            plain_batch(self.set, &self.indices[range.clone()], &mut out)?;
        }
        let mut other = Vec::new();
        if self.kind == ImageKind::Interpolated {
            other = vec![0.0; out.len()];
            let lag = self.lag();
            plain_batch(self.set, &self.indices[range.start + lag..range.end + lag], &mut other)?;
        }
        for (k, image) in out.chunks_exact_mut(px).enumerate() {
            let i = (range.start + k) as u32;
            self.make(i, image, other.get(k * px..(k + 1) * px).unwrap_or_default());
            if self.noise > 0.0 {
                let mut rng = self.rng(eval_stream::NOISE + i);
                image.iter_mut().for_each(|v| *v += self.noise * rng.normal());
            }
        }
        Ok(out)
    }

    fn rng(&self, step: u32) -> Philox {
        Philox::new(self.seed, streams::EVAL, step)
    }

    fn make(&self, i: u32, image: &mut [f32], other: &[f32]) {
        let [h, w, c] = self.set.size();
        match self.kind {
            ImageKind::Plain => {}
            ImageKind::Shuffled => {
                let mut order: Vec<usize> = (0..h * w).collect();
                self.rng(eval_stream::SHUFFLED + i).shuffle(&mut order);
                let old = image.to_vec();
                for (new, p) in image.chunks_exact_mut(c).zip(order) {
                    new.copy_from_slice(&old[p * c..(p + 1) * c]);
                }
            }
            ImageKind::Blurred => blur(image, [h, w, c], BLUR * h.min(w) as f32),
            ImageKind::Interpolated => image.iter_mut().zip(other).for_each(|(a, b)| *a = 0.5 * (*a + b)),
            ImageKind::Uniform => {
                let mut rng = self.rng(eval_stream::UNIFORM + i);
                image.iter_mut().for_each(|v| *v = 2.0 * rng.uniform() - 1.0);
            }
            ImageKind::Gaussian => {
                let mut rng = self.rng(eval_stream::GAUSSIAN + i);
                image.iter_mut().for_each(|v| *v = (NOISE_STD * rng.normal()).clamp(-1.0, 1.0));
            }
            ImageKind::Constant => {
                let mut rng = self.rng(eval_stream::CONSTANT + i);
                let colour: Vec<f32> = (0..c).map(|_| 2.0 * rng.uniform() - 1.0).collect();
                image.chunks_exact_mut(c).for_each(|p| p.copy_from_slice(&colour));
            }
        }
    }
}

/// Blurs an H×W×C image with a Gaussian filter of standard deviation `sigma` pixels, truncated at 3σ, with reflected
/// borders.
fn blur(image: &mut [f32], [h, w, c]: [usize; 3], sigma: f32) {
    let reach = (3.0 * sigma).ceil() as isize;
    let weights: Vec<f32> = (-reach..=reach).map(|d| (-0.5 * (d as f32 / sigma).powi(2)).exp()).collect();
    let total: f32 = weights.iter().sum();
    let mirror = |i: isize, n: usize| {
        let period = 2 * n as isize;
        let i = i.rem_euclid(period);
        (if i < n as isize { i } else { period - 1 - i }) as usize
    };
    let mut pass = |n: usize, stride: usize, starts: Vec<usize>| {
        let mut line = vec![0.0; n];
        for start in starts {
            line.iter_mut().enumerate().for_each(|(i, v)| *v = image[start + i * stride]);
            for i in 0..n {
                let at = |d: usize| line[mirror(i as isize + d as isize - reach, n)];
                let sum: f32 = weights.iter().enumerate().map(|(d, k)| k * at(d)).sum();
                image[start + i * stride] = sum / total;
            }
        }
    };
    pass(w, c, (0..h).flat_map(|y| (0..c).map(move |k| y * w * c + k)).collect());
    pass(h, w * c, (0..w * c).collect());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(n: usize) -> Dataset {
        let images: Vec<u8> = (0..n * 3 * 4 * 3).map(|i| (i * 37 % 251) as u8).collect();
        Dataset::new("x", [3, 4, 3], 2, images, vec![0; n]).unwrap()
    }

    #[test]
    fn results_do_not_depend_on_grouping() {
        let (set, n) = (set(250), 250);
        let indices: Vec<u32> = (0..n).collect();
        for kind in ImageKind::SYNTHETIC.into_iter().chain([ImageKind::Plain]) {
            let images = EvalImages::new(&set, &indices, kind, 5, 0.1).unwrap();
            let all = images.load(0..images.len()).unwrap();
            let parts = [images.load(0..7).unwrap(), images.load(7..images.len()).unwrap()].concat();
            assert_eq!(all, parts, "{kind:?}");
            let other = EvalImages::new(&set, &indices, kind, 6, 0.1).unwrap();
            assert_ne!(all, other.load(0..images.len()).unwrap(), "{kind:?}");
        }
    }

    #[test]
    fn kinds_match_their_definitions() {
        let set = set(250);
        let indices: Vec<u32> = (0..250).collect();
        let get = |kind| {
            let images = EvalImages::new(&set, &indices, kind, 5, 0.0).unwrap();
            (images.len(), images.load(0..images.len()).unwrap())
        };
        let (_, plain) = get(ImageKind::Plain);
        let (_, shuffled) = get(ImageKind::Shuffled);
        assert_ne!(plain, shuffled);
        let pixels = |image: &[f32]| {
            let mut p: Vec<Vec<u32>> =
                image.chunks(3).map(|p| p.iter().map(|v| v.to_bits()).collect()).collect();
            p.sort();
            p
        };
        assert!(plain.chunks(36).zip(shuffled.chunks(36)).all(|(a, b)| pixels(a) == pixels(b)));
        let (n, mixed) = get(ImageKind::Interpolated);
        assert_eq!(n, 150);
        // Each is the mean of two images, and no two are alike.
        let mean_of_two = |m: &[f32]| {
            let mean =
                |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(a, b)| 0.5 * (a + b)).collect::<Vec<_>>();
            let pair = |a| plain.chunks(36).any(|b| mean((a, b)) == m);
            plain.chunks(36).any(pair)
        };
        assert!(mixed.chunks(36).take(5).all(mean_of_two));
        let (_, constant) = get(ImageKind::Constant);
        assert!(constant.chunks(36).all(|i| i.chunks(3).all(|p| p == &i[..3])));
        let (_, noise) = get(ImageKind::Gaussian);
        let sd = (noise.iter().map(|v| v * v).sum::<f32>() / noise.len() as f32).sqrt();
        assert!((sd - 0.49).abs() < 0.02 && noise.iter().all(|v| v.abs() <= 1.0), "{sd}");
        assert!(EvalImages::new(&set, &[], ImageKind::Plain, 0, 0.0).is_err());
        assert!(EvalImages::new(&set, &[1], ImageKind::Interpolated, 0, 0.0).is_err());
    }

    #[test]
    fn blur_preserves_means_and_spreads_a_point() {
        let mut point = vec![0.0; 9 * 11];
        point[4 * 11 + 5] = 1.0;
        blur(&mut point, [9, 11, 1], 1.0);
        assert!((point.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        // The centre of a sampled Gaussian of σ = 1 is 0.3991² of it.
        assert!((point[4 * 11 + 5] - 0.3991f32.powi(2)).abs() < 1e-3);
        assert_eq!(point[4 * 11 + 4], point[4 * 11 + 6]);
        assert!((point[3 * 11 + 5] - point[4 * 11 + 4]).abs() < 1e-6);
        let mut flat = vec![0.25; 3 * 4 * 2];
        blur(&mut flat, [3, 4, 2], 2.0);
        assert!(flat.iter().all(|v| (v - 0.25).abs() < 1e-6));
    }
}
