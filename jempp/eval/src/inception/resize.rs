//! Resizing of 8-bit images for InceptionV3, by one of the two conventions in use. FIDs of the two are not comparable.

use serde::{Deserialize, Serialize};

/// Height and width of InceptionV3's input.
pub const SIDE: usize = 299;

/// How images are resized and scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// clean-fid (Parmar et al., "On Aliased Resizing and Surprising Subtleties in GAN Evaluation", 2022): PIL's bicubic
    /// filter with antialiasing, on each channel in float, clipped to [0, 255]; then (v − 128)/128.
    #[default]
    Pil,
    /// pytorch-fid: PyTorch's bilinear interpolation, `align_corners=False`, without antialiasing; then 2·v/255 − 1.
    Torch,
}

impl Resize {
    /// A description for result files.
    pub fn description(self) -> &'static str {
        match self {
            Self::Pil => "PIL bicubic (clean-fid)",
            Self::Torch => "bilinear, align_corners=False (pytorch-fid)",
        }
    }

    /// A resizer from images of `[h, w]` pixels to `side` × `side`.
    pub fn to(self, side: usize, [h, w]: [usize; 2]) -> Resizer {
        let axis = |len| match self {
            Self::Pil => bicubic(len, side),
            Self::Torch => bilinear(len, side),
        };
        Resizer { how: self, size: [h, w], rows: axis(h), columns: axis(w) }
    }
}

/// For each output along an axis: the index of the first input, and the weights of this input and the following ones.
type AxisWeights = Vec<(usize, Vec<f64>)>;

/// Interpolation weights for images of one size.
#[derive(Clone, Debug)]
pub struct Resizer {
    how: Resize,
    size: [usize; 2],
    rows: AxisWeights,
    columns: AxisWeights,
}

impl Resizer {
    /// Appends an image H×W×`c` (`c` is 1 or 3) to `out`, resized to side×side×3 values in [−1, 1].
    pub fn run(&self, image: &[u8], c: usize, out: &mut Vec<f32>) {
        let ([h, w], side) = (self.size, self.columns.len());
        let mut wide = vec![0.0f32; h * side * c];
        for (row, from) in wide.chunks_exact_mut(side * c).zip(image.chunks_exact(w * c)) {
            for (to, (first, weights)) in row.chunks_exact_mut(c).zip(&self.columns) {
                for (k, to) in to.iter_mut().enumerate() {
                    let value = |(i, weight): (usize, &f64)| weight * f64::from(from[(first + i) * c + k]);
                    *to = weights.iter().enumerate().map(value).sum::<f64>() as f32;
                }
            }
        }
        for (first, weights) in &self.rows {
            for at in 0..side {
                let value = |k: usize| {
                    let from = |i: usize| f64::from(wide[((first + i) * side + at) * c + k]);
                    self.scaled(
                        weights.iter().enumerate().map(|(i, weight)| weight * from(i)).sum::<f64>() as f32
                    )
                };
                out.extend((0..3).map(|k| value(if c == 1 { 0 } else { k })));
            }
        }
    }

    fn scaled(&self, v: f32) -> f32 {
        match self.how {
            Resize::Pil => (v.clamp(0.0, 255.0) - 128.0) / 128.0,
            Resize::Torch => 2.0 * (v / 255.0) - 1.0,
        }
    }
}

/// PIL's weights (`precompute_coeffs` in `Resample.c`), with Keys's cubic kernel of a = −½.
fn bicubic(len: usize, side: usize) -> AxisWeights {
    let kernel = |x: f64| match x.abs() {
        x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        x if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        _ => 0.0,
    };
    let scale = len as f64 / side as f64;
    let wide = scale.max(1.0);
    let support = 2.0 * wide;
    let output = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(len);
        let mut weights: Vec<f64> = (first..end).map(|j| kernel((j as f64 - centre + 0.5) / wide)).collect();
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= total);
        (first, weights)
    };
    (0..side).map(output).collect()
}

/// PyTorch's weights (`area_pixel_compute_source_index`).
fn bilinear(len: usize, side: usize) -> AxisWeights {
    let scale = len as f64 / side as f64;
    let output = |i: usize| {
        let at = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
        let first = (at as usize).min(len - 1);
        let part = at - first as f64;
        if first + 1 < len { (first, vec![1.0 - part, part]) } else { (first, vec![1.0]) }
    };
    (0..side).map(output).collect()
}
