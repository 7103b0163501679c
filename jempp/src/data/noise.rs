//! Normal noise in bulk for augmentation.
//!
//! Invariant: only IEEE additions, multiplications, divisions and square roots, in a fixed order and without fused
//! multiply-adds, so that the bits are the same on every machine and the loops vectorise on any. Noise on images
//! is made on the CPU only, so nothing on a GPU has to match it.

use engine::rng::Philox;
use rand::Rng;

/// Values made at a time; a multiple of four, the words of a Philox block.
const CHUNK: usize = 256;

/// Adds σ·N(0, 1) to each of `out`. Takes as many words as `out` is long, rounded up to a multiple of four.
pub(super) fn add_normals(rng: &mut Philox, sigma: f32, out: &mut [f32]) {
    let mut words = [0u32; CHUNK];
    let mut normals = [0f32; CHUNK];
    for part in out.chunks_mut(CHUNK) {
        let n = part.len().next_multiple_of(4);
        for w in &mut words[..n] {
            *w = rng.next_u32();
        }
        let (a, b) = words[..n].split_at(n / 2);
        let (x, y) = normals[..n].split_at_mut(n / 2);
        for (((a, b), x), y) in a.iter().zip(b).zip(x).zip(y) {
            (*x, *y) = normal_pair(*a, *b);
        }
        for (o, z) in part.iter_mut().zip(&normals) {
            *o += sigma * z;
        }
    }
}

/// Two words to two independent standard normals (Box & Muller, 1958).
#[inline(always)]
fn normal_pair(a: u32, b: u32) -> (f32, f32) {
    let r = (-2.0 * ln(uniform(a))).sqrt();
    let (s, c) = sin_cos_turns(uniform(b));
    (r * c, r * s)
}

/// A word to the midpoint of one of 2²³ cells of (0, 1). By way of `i32`, whose conversion vectorises.
#[inline(always)]
fn uniform(word: u32) -> f32 {
    ((word >> 9) as i32 as f32 + 0.5) * (1.0 / 8_388_608.0)
}

/// Natural logarithm of a normal positive number (the polynomial of Cephes' `logf`).
#[inline(always)]
fn ln(x: f32) -> f32 {
    // Mantissa in [√½, √2): the exponent boundary is shifted by the bits of √½.
    let shifted = x.to_bits().wrapping_sub(0x3F35_04F3) as i32 >> 23;
    let m = f32::from_bits(x.to_bits().wrapping_sub((shifted << 23) as u32)) - 1.0;
    let e = shifted as f32;
    let p = 7.037_683_6e-2;
    let p = p * m - 1.151_461e-1;
    let p = p * m + 1.167_699_9e-1;
    let p = p * m - 1.242_014_1e-1;
    let p = p * m + 1.424_932_3e-1;
    let p = p * m - 1.666_805_8e-1;
    let p = p * m + 2.000_071_4e-1;
    let p = p * m - 2.499_999_4e-1;
    let p = p * m + 3.333_333e-1;
    let z = m * m;
    let y = p * m * z - 2.121_944_4e-4 * e - 0.5 * z;
    m + y + 0.693_359_4 * e
}

/// (sin 2πt, cos 2πt) for t in [0, 1).
#[inline(always)]
fn sin_cos_turns(t: f32) -> (f32, f32) {
    // Nearest quarter turn; what is left lies in [−1/8, 1/8] of a turn.
    let q = (t * 4.0 + 0.5) as i32;
    let a = (t - q as f32 * 0.25) * core::f32::consts::TAU;
    let z = a * a;
    let s = ((-1.951_529_6e-4 * z + 8.332_161e-3) * z - 1.666_665_5e-1) * z * a + a;
    let c = ((2.443_315_7e-5 * z - 1.388_731_6e-3) * z + 4.166_664_6e-2) * z * z - 0.5 * z + 1.0;
    // Odd quarters swap the two; the sine is negative in quarters 2 and 3, the cosine in 1 and 2.
    let (u, v) = if q & 1 == 0 { (s, c) } else { (c, s) };
    let flip = |x: f32, bit: i32| f32::from_bits(x.to_bits() ^ ((bit as u32 & 2) << 30));
    (flip(u, q), flip(v, q + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::rng::Stream;

    #[test]
    fn elementary_functions_are_accurate() {
        for i in 0..100_000u32 {
            let u = uniform(i.wrapping_mul(42_949) ^ (i << 13));
            assert!(u > 0.0 && u < 1.0);
            let exact = f64::from(u).ln();
            assert!((f64::from(ln(u)) - exact).abs() <= 4e-7 * exact.abs().max(1e-2), "ln({u})");
            let (s, c) = sin_cos_turns(u);
            let (es, ec) = (f64::from(u) * core::f64::consts::TAU).sin_cos();
            assert!((f64::from(s) - es).abs() < 5e-7 && (f64::from(c) - ec).abs() < 5e-7, "sincos({u})");
        }
        assert!(ln(uniform(u32::MAX)) < 0.0 && ln(uniform(0)).is_finite());
    }

    #[test]
    fn moments_are_those_of_a_normal() {
        let mut x = vec![0.0; 200_001];
        add_normals(&mut Philox::new(3, Stream::Test, 0), 2.0, &mut x);
        let n = x.len() as f64;
        let moment = |k| x.iter().map(|v| (f64::from(*v) / 2.0).powi(k)).sum::<f64>() / n;
        assert!(moment(1).abs() < 8e-3 && (moment(2) - 1.0).abs() < 1e-2);
        assert!(moment(3).abs() < 3e-2 && (moment(4) - 3.0).abs() < 8e-2);
        let lag = x.windows(2).map(|w| f64::from(w[0]) * f64::from(w[1])).sum::<f64>() / n / 4.0;
        assert!(lag.abs() < 1e-2);
    }

    #[test]
    fn takes_the_words_it_says_it_takes() {
        for (n, words) in [(1, 4), (64, 64), (66, 68), (257, 260), (3072, 3072)] {
            let mut rng = Philox::new(3, Stream::Test, 1);
            let mut same = rng.clone();
            add_normals(&mut rng, 1.0, &mut vec![0.0; n]);
            for _ in 0..words {
                same.next_u32();
            }
            assert_eq!(rng.next_u32(), same.next_u32(), "{n}");
        }
    }
}
