//! Image resizing that equals PIL's, on which most published results are based.
//!
//! Source: Pillow's `Resample.c` with the filter `BILINEAR`, a triangle that widens with the reduction. The fixed-point
//! arithmetic is the same, so that values are equal: horizontally first, then vertically, each rounded to bytes.

/// Fractional bits of a weight.
const BITS: u32 = 32 - 8 - 2;

/// The weights of one output: the index of its first input, and one weight per input.
type Weights = (usize, Vec<i32>);

/// The weights of each of `out` outputs from `size` inputs.
fn weights(size: usize, out: usize) -> Vec<Weights> {
    let scale = size as f64 / out as f64;
    let wide = scale.max(1.0);
    let weigh = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        let first = ((centre - wide + 0.5).max(0.0)) as usize;
        let last = ((centre + wide + 0.5) as usize).min(size);
        let raw: Vec<f64> =
            (first..last).map(|k| (1.0 - ((k as f64 - centre + 0.5) / wide).abs()).max(0.0)).collect();
        let sum: f64 = raw.iter().sum();
        let fixed = |w: &f64| (0.5 + w / sum * f64::from(1 << BITS)) as i32;
        (first, raw.iter().map(fixed).collect())
    };
    (0..out).map(weigh).collect()
}

fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// Resizes an image of `[h, w]` pixels with `c` channels to `[oh, ow]`.
pub(crate) fn bilinear(image: &[u8], [h, w]: [usize; 2], c: usize, [oh, ow]: [usize; 2]) -> Vec<u8> {
    const HALF: i32 = 1 << (BITS - 1);
    let mut across = vec![0; h * ow * c];
    let columns = weights(w, ow);
    for (row, out) in image.chunks_exact(w * c).zip(across.chunks_exact_mut(ow * c)) {
        for (pixel, (first, weights)) in out.chunks_exact_mut(c).zip(&columns) {
            for (k, o) in pixel.iter_mut().enumerate() {
                let inputs = row[first * c + k..].iter().step_by(c);
                *o = byte(inputs.zip(weights).fold(HALF, |s, (v, w)| s + i32::from(*v) * w));
            }
        }
    }
    let mut out = vec![0; oh * ow * c];
    for (row, (first, weights)) in out.chunks_exact_mut(ow * c).zip(weights(h, oh)) {
        for (k, o) in row.iter_mut().enumerate() {
            let inputs = across[first * ow * c + k..].iter().step_by(ow * c);
            *o = byte(inputs.zip(&weights).fold(HALF, |s, (v, w)| s + i32::from(*v) * w));
        }
    }
    out
}
