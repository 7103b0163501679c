//! Image resizing that equals PIL's, on which most published results are based.
//!
//! Source: Pillow's `Resample.c`: filters that widen with the reduction. The fixed-point arithmetic is the same, so that values
//! are equal: horizontally first, then vertically, each rounded to bytes.

use core::f64::consts::PI;

/// Fractional bits of a weight.
const BITS: u32 = 32 - 8 - 2;

/// The interpolation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Means of boxes: enlarged, the nearest pixel.
    Box,
    /// A triangle.
    #[default]
    Bilinear,
    /// A cubic with a = −½.
    Bicubic,
    /// A windowed sinc of three lobes.
    Lanczos,
}

impl Filter {
    /// Half the width of the filter, in pixels, without reduction.
    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        let v = x.abs();
        match self {
            // The right edge belongs to the box, the left one to its neighbour.
            Self::Box => f64::from(x > -0.5 && x <= 0.5),
            Self::Bilinear => (1.0 - v).max(0.0),
            Self::Bicubic if v < 1.0 => (1.5 * v - 2.5) * v * v + 1.0,
            Self::Bicubic if v < 2.0 => -0.5 * (((v - 5.0) * v + 8.0) * v - 4.0),
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Bicubic | Self::Lanczos => 0.0,
        }
    }

    /// The weights of each of `out` outputs from `size` inputs.
    fn weights(self, size: usize, out: usize) -> Vec<Weights> {
        let scale = size as f64 / out as f64;
        let (wide, per) = (scale.max(1.0) * self.support(), scale.max(1.0));
        let weigh = |i: usize| {
            let centre = (i as f64 + 0.5) * scale;
            let first = ((centre - wide + 0.5).max(0.0)) as usize;
            let last = ((centre + wide + 0.5) as usize).min(size);
            let raw: Vec<f64> = (first..last).map(|k| self.at((k as f64 - centre + 0.5) / per)).collect();
            let sum: f64 = raw.iter().sum();
            let fixed = |w: &f64| {
                let w = w / sum * f64::from(1 << BITS);
                (w + 0.5f64.copysign(w)) as i32
            };
            (first, raw.iter().map(fixed).collect())
        };
        (0..out).map(weigh).collect()
    }
}

/// The weights of one output: the index of its first input, and one weight per input.
type Weights = (usize, Vec<i32>);

fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// Resizes an image of `[h, w]` pixels with `c` channels to `[oh, ow]`.
pub fn resample(image: &[u8], [h, w]: [usize; 2], c: usize, [oh, ow]: [usize; 2], filter: Filter) -> Vec<u8> {
    const HALF: i32 = 1 << (BITS - 1);
    let mut across = vec![0; h * ow * c];
    let columns = filter.weights(w, ow);
    for (row, out) in image.chunks_exact(w * c).zip(across.chunks_exact_mut(ow * c)) {
        for (pixel, (first, weights)) in out.chunks_exact_mut(c).zip(&columns) {
            for (k, o) in pixel.iter_mut().enumerate() {
                let inputs = row[first * c + k..].iter().step_by(c);
                *o = byte(inputs.zip(weights).fold(HALF, |s, (v, w)| s + i32::from(*v) * w));
            }
        }
    }
    let mut out = vec![0; oh * ow * c];
    for (row, (first, weights)) in out.chunks_exact_mut(ow * c).zip(filter.weights(h, oh)) {
        for (k, o) in row.iter_mut().enumerate() {
            let inputs = across[first * ow * c + k..].iter().step_by(ow * c);
            *o = byte(inputs.zip(&weights).fold(HALF, |s, (v, w)| s + i32::from(*v) * w));
        }
    }
    out
}

/// [`resample`] with [`Filter::Bilinear`].
pub fn bilinear(image: &[u8], from: [usize; 2], c: usize, to: [usize; 2]) -> Vec<u8> {
    resample(image, from, c, to, Filter::Bilinear)
}

/// What is done with an image of another shape than the wanted one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// The largest central part of the wanted shape is scaled.
    #[default]
    Crop,
    /// The whole image is scaled, which changes its proportions.
    Squash,
}

/// Scales images to one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    /// Height and width of the results.
    pub size: [usize; 2],
    /// What is done with images of another shape.
    pub fit: Fit,
    /// The interpolation.
    pub filter: Filter,
}

impl Resize {
    /// The image of `[h, w]` pixels with `c` channels, scaled.
    pub fn apply(&self, image: &[u8], [h, w]: [usize; 2], c: usize) -> Vec<u8> {
        let [oh, ow] = self.size;
        if [h, w] == self.size {
            return image.to_vec();
        }
        // The central part whose sides are as those of the result.
        let [ph, pw] = match self.fit {
            Fit::Squash => [h, w],
            Fit::Crop if h * ow > w * oh => [(w * oh).div_ceil(ow).clamp(1, h), w],
            Fit::Crop => [h, (h * ow).div_ceil(oh).clamp(1, w)],
        };
        if [ph, pw] == [h, w] {
            return resample(image, [h, w], c, self.size, self.filter);
        }
        let (top, left) = ((h - ph) / 2, (w - pw) / 2);
        let rows = image.chunks_exact(w * c).skip(top).take(ph);
        let part: Vec<u8> = rows.flat_map(|row| &row[left * c..(left + pw) * c]).copied().collect();
        resample(&part, [ph, pw], c, self.size, self.filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    const PIL: [(Filter, [usize; 2], &[u8]); 8] = [
        (Filter::Box, [2, 3], &[85, 19, 87, 129, 255, 35]),
        (Filter::Box, [4, 7], &[10, 200, 200, 30, 255, 255, 0, 128, 0, 0, 7, 0, 0, 90, 128, 0, 0, 7, 0, 0, 90, 3, 255, 255, 255, 9, 9, 60]),
        (Filter::Bilinear, [2, 3], &[84, 75, 87, 97, 127, 43]),
        (Filter::Bilinear, [4, 7], &[10, 119, 151, 30, 191, 146, 0, 84, 79, 58, 16, 73, 79, 56, 81, 90, 97, 100, 31, 36, 79, 3, 147, 255, 255, 79, 31, 60]),
        (Filter::Bicubic, [2, 3], &[81, 75, 90, 101, 132, 36]),
        (Filter::Bicubic, [4, 7], &[0, 132, 175, 31, 225, 164, 0, 94, 77, 44, 0, 75, 85, 62, 94, 84, 84, 98, 9, 22, 90, 0, 149, 255, 255, 68, 14, 61]),
        (Filter::Lanczos, [2, 3], &[76, 78, 90, 105, 132, 29]),
        (Filter::Lanczos, [4, 7], &[0, 142, 182, 37, 237, 172, 0, 100, 80, 33, 0, 83, 97, 61, 100, 78, 83, 107, 0, 10, 99, 0, 138, 255, 255, 71, 7, 66]),
    ];

    /// `np.array(Image.fromarray(a).resize((w, h), filter))`, a = [[10, 200, 30, 255, 0], [128, 0, 7, 0, 90], [3, 255, 255, 9, 60]].
    #[test]
    fn filters_equal_those_of_pil() {
        let a = [10, 200, 30, 255, 0, 128, 0, 7, 0, 90, 3, 255, 255, 9, 60];
        for (filter, to, want) in PIL {
            assert_eq!(resample(&a, [3, 5], 1, to, filter), want, "{filter:?} {to:?}");
        }
    }

    #[test]
    fn crops_are_central_and_whole_images_are_squashed() {
        let image: Vec<u8> = (0..24).collect();
        let resize = |fit| Resize { size: [2, 2], fit, filter: Filter::Box };
        // Of 4×6 the columns 1 to 4.
        assert_eq!(resize(Fit::Crop).apply(&image, [4, 6], 1), [5, 7, 17, 19]);
        assert_eq!(resize(Fit::Squash).apply(&image, [4, 6], 1), [4, 7, 16, 19]);
        assert_eq!(resize(Fit::Crop).apply(&image[..4], [2, 2], 1), image[..4]);
        assert_eq!(resize(Fit::Crop).apply(&[9, 9, 9], [1, 1], 3).len(), 12);
        // A strip of one pixel.
        assert_eq!(resize(Fit::Crop).apply(&image, [24, 1], 1), [11; 4]);
    }
}
