//! From bytes to the network's input: x = (u/255 − ½)/½, with crops, mirroring and noise in training.
//!
//! Invariants: what happens to the image at a position of a batch depends on the place (seed, stream, step) and the
//! position only, and each position owns the same number of words of the random sequence, whatever is done with them:
//! 4·(1 + ⌈pixels/4⌉) where there is noise, 4 where there is none. Bits are the same on every device and at every SIMD
//! level, as `philox` has it.

use crate::cpu::{Cpu, for_parts, simd::multiversion};
use crate::ops::noise::{Distribution, Place, draw};
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
    /// Adds σ·N(0, 1) to each of `out`, from the words of block `first` on.
    fn add_normals<T: Real>(place: Place, first: u64, sigma: f32, out: &mut [T]) {
        draw(place, Distribution::Normal, first, out, |o, z| *o += T::of(f64::from(sigma * z)));
    }
}

/// The CUDA arm: `cuda/augment.cu`.
pub mod cuda {
    use super::Args;
    use crate::gpu::launch::{Launch, f32, i32, int, of, threads_per_row, u32};
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
        unsafe { Launch::new(gpu, "augment", "augment_f32", threads_per_row(pixels.div_ceil(4), n), params) }
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
