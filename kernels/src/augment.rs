//! From bytes to the network's input: x = (u/255 − ½)/½, with crops, mirroring and noise in training.
//!
//! Invariants: what happens to the image at a position of a batch depends on the place (seed, stream, step) and the
//! position only, and each position owns the same number of words of the random sequence, whatever is done with them:
//! 4·(1 + ⌈pixels/4⌉) where there is noise, 4 where there is none. The noise uses only IEEE additions, multiplications,
//! divisions and square roots, in a fixed order and without fused multiply-adds, so that the bits are the same on every
//! device and at every SIMD level.

use crate::cpu::{Cpu, for_parts, simd::multiversion};
use crate::noise::Place;
use crate::philox::{Counter, philox4x32_10};

/// Training augmentation, image by image: reflected border and random crop, mirroring, noise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Args {
    /// Pixels of reflected border on each side (the edge itself is not repeated) before the crop to the old size.
    pub pad: usize,
    /// Whether to mirror left and right with probability ½.
    pub flip: bool,
    /// Standard deviation of the normal noise, in units of [−1, 1]; the sum is not clipped.
    pub sigma: f32,
}

/// Normals made at a time; a multiple of four, the words of a Philox block.
const CHUNK: usize = 256;

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

/// Images `index` of `images` (each h×w×c bytes), augmented, to `out` (n×h×w×c); a row of NaN where the index is out
/// of range. `args.pad` is below h and w. Allocates nothing.
pub fn cpu(
    cpu: &Cpu,
    args: Args,
    [h, w, c]: [usize; 3],
    images: &[u8],
    index: &[i32],
    place: Place,
    out: &mut [f32],
) {
    let pixels = h * w * c;
    let groups = 1 + if args.sigma > 0.0 { pixels.div_ceil(4) as u64 } else { 0 };
    for_parts(cpu, out, pixels, |i, out| {
        let at = usize::try_from(index[i]).ok();
        let Some(image) = at.and_then(|at| images.get(at * pixels..(at + 1) * pixels)) else {
            return out.fill(f32::NAN);
        };
        let first = i as u64 * groups;
        let [dy, dx, mirror, _] = block(place, first);
        let places = 2 * args.pad as u32 + 1;
        let shift = [dy, dx].map(|d| below(d, places) as isize - args.pad as isize);
        crop(image, [h, w, c], shift, args.flip && below(mirror, 2) == 1, out);
        if args.sigma > 0.0 {
            add_normals(cpu.simd, place, first + 1, args.sigma, out);
        }
    });
}

fn block(place: Place, element: u64) -> [u32; 4] {
    philox4x32_10(Counter { element, step: place.step, stream: place.stream }.words(), place.key)
}

/// An integer in `0..n` from a word.
fn below(word: u32, n: u32) -> u32 {
    ((u64::from(word) * u64::from(n)) >> 32) as u32
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

multiversion! {
    /// Adds σ·N(0, 1) to each of `out`, from the words of block `first` on; each chunk takes as many words as it is
    /// long, rounded up to whole blocks.
    fn add_normals<T: Real>(place: Place, first: u64, sigma: f32, out: &mut [T]) {
        let mut words = [0u32; CHUNK];
        let mut normals = [0f32; CHUNK];
        for (k, part) in out.chunks_mut(CHUNK).enumerate() {
            let n = part.len().next_multiple_of(4);
            for (i, w) in words[..n].chunks_exact_mut(4).enumerate() {
                w.copy_from_slice(&block(place, first + (k * CHUNK / 4 + i) as u64));
            }
            let (a, b) = words[..n].split_at(n / 2);
            let (x, y) = normals[..n].split_at_mut(n / 2);
            for (((a, b), x), y) in a.iter().zip(b).zip(x).zip(y) {
                (*x, *y) = normal_pair(*a, *b);
            }
            for (o, z) in part.iter_mut().zip(&normals) {
                *o += T::of(f64::from(sigma * z));
            }
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

/// The CUDA arm: `cuda/augment.cu`.
pub mod cuda {
    use super::Args;
    use crate::gpu::launch::{Launch, f32, i32, int, of, threads_by_row, u32};
    use crate::gpu::{Gpu, GpuError};

    /// n images out of `count` of h×w×c, augmented. Spans: images, index, seed (2 words), step (1), the result.
    ///
    /// # Errors
    /// What compiling and loading give.
    pub fn augment(
        gpu: &Gpu,
        args: Args,
        [h, w, c]: [usize; 3],
        count: usize,
        n: usize,
        stream: u32,
    ) -> Result<Launch, GpuError> {
        let size = |x| int("augment", x).map(i32);
        let pixels = h * w * c;
        let params = vec![
            of::<u8>("images", count * pixels),
            size(count)?,
            of::<i32>("index", n),
            size(n)?,
            size(h)?,
            size(w)?,
            size(c)?,
            size(args.pad)?,
            i32(args.flip.into()),
            f32(f64::from(args.sigma)),
            of::<i32>("seed", 2),
            of::<i32>("step", 1),
            u32(0),
            u32(stream),
            of::<f32>("out", n * pixels),
        ];
        // SAFETY: the kernel reads n indices, images only where the index lies inside, two words of the seed and one of
        // the step; it writes n images.
        unsafe { Launch::new(gpu, "augment", "augment_f32", threads_by_row(pixels.div_ceil(8), n), params) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::{Level, Simd};

    const PLACE: Place = Place { key: [5, 0], stream: 999, step: 4 };

    fn images(n: usize, pixels: usize) -> Vec<u8> {
        (0..n * pixels).map(|i| (i * 7 % 251) as u8).collect()
    }

    fn run(args: Args, size: [usize; 3], index: &[i32]) -> Vec<f32> {
        let pixels: usize = size.iter().product();
        let mut out = vec![0.0; index.len() * pixels];
        cpu(&Cpu::new(2, Level::Avx512), args, size, &images(200, pixels), index, PLACE, &mut out);
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
        let size = [4, 6, 3];
        let all = images(200, 72);
        let plain: Vec<f32> =
            [4, 0, 2].iter().flat_map(|i| &all[i * 72..(i + 1) * 72]).map(|u| value(*u)).collect();
        assert_eq!(run(Args::default(), size, &[4, 0, 2]), plain);
        assert!(run(Args::default(), size, &[200, -1]).iter().all(|v| v.is_nan()));
    }

    #[test]
    fn depends_on_position_not_on_neighbours() {
        let a = Args { pad: 2, flip: true, sigma: 0.1 };
        let x = run(a, [8, 8, 1], &[3, 1, 7]);
        let y = run(a, [8, 8, 1], &[0, 1, 2, 8]);
        assert_eq!(x[64..128], y[64..128]);
        let z = run(a, [8, 8, 1], &[3, 3]);
        assert_ne!(z[..64], z[64..]);
    }

    #[test]
    fn noise_is_added_to_the_same_crop_and_has_its_size() {
        let all: Vec<i32> = (0..200).collect();
        let first = |sigma| run(Args { pad: 1, flip: true, sigma }, [8, 8, 1], &[7]);
        let difference: Vec<f32> = first(0.5).iter().zip(first(0.0)).map(|(a, b)| a - b).collect();
        assert!(difference.iter().all(|d| d.abs() < 3.0 && *d != 0.0));
        let plain = run(Args::default(), [8, 8, 1], &all);
        let noisy = run(Args { sigma: 0.5, ..Args::default() }, [8, 8, 1], &all);
        let square: f64 = noisy.iter().zip(&plain).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        assert!((square / plain.len() as f64 - 0.25).abs() < 0.01);
    }

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
    fn moments_are_those_of_a_normal_at_every_level() {
        let draw = |level| {
            let mut x = vec![0.0f32; 200_001];
            add_normals(Simd::detect(level), PLACE, 0, 2.0, &mut x);
            x
        };
        let x = draw(Level::Portable);
        assert!(x == draw(Level::Avx2) && x == draw(Level::Avx512));
        let n = x.len() as f64;
        let moment = |k| x.iter().map(|v| (f64::from(*v) / 2.0).powi(k)).sum::<f64>() / n;
        assert!(moment(1).abs() < 8e-3 && (moment(2) - 1.0).abs() < 1e-2);
        assert!(moment(3).abs() < 3e-2 && (moment(4) - 3.0).abs() < 8e-2);
        let lag = x.windows(2).map(|w| f64::from(w[0]) * f64::from(w[1])).sum::<f64>() / n / 4.0;
        assert!(lag.abs() < 1e-2);
    }
}
