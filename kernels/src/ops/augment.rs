//! From image bytes to the network's input: x = (u/255 − ½)/½, with crops, mirroring and noise in training.
//!
//! Invariants: what happens to the image at a position of a batch depends on the random sequence (seed, stream, step)
//! and the position only, and each position owns the same number of words of the random sequence, used or not: 4·(1 +
//! ⌈pixels/4⌉) where there is noise, 4 if there is none. Bits are the same on every device and at every SIMD level,
//! like those of `philox`.

use crate::cpu::{Cpu, for_parts, simd::multiversion};
use crate::ops::noise::{Distribution, RandomSequence, draw};
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
    sequence: RandomSequence,
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
        let [dy, dx, mirror, _] = block(sequence, first);
        let places = 2 * args.pad as u32 + 1;
        let shift = [dy, dx].map(|d| below(d, places) as isize - args.pad as isize);
        crop(image, [h, w, c], shift, args.flip && below(mirror, 2) == 1, out);
        if args.sigma > 0.0 {
            add_normals(cpu.simd, sequence, first + 1, args.sigma, out);
        }
    });
}

fn block(sequence: RandomSequence, element: u64) -> [u32; 4] {
    philox4x32_10(Counter { element, step: sequence.step, stream: sequence.stream }.words(), sequence.key)
}

/// An integer in `0..n` from a word.
fn below(word: u32, n: u32) -> u32 {
    ((u64::from(word) * u64::from(n)) >> 32) as u32
}

/// The window of `source`, continued by reflection, at offset `shift`; then mirrored if `mirror`.
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

/// The index in `0..n` whose reflection is `i`, which is at most n − 1 outside.
fn reflect(i: isize, n: usize) -> usize {
    let last = n as isize - 1;
    (last - (last - i.abs()).abs()) as usize
}

multiversion! {
    /// Adds σ·N(0, 1) to each of `out`, from the words of block `first` on.
    fn add_normals<T: Real>(sequence: RandomSequence, first: u64, sigma: f32, out: &mut [T]) {
        draw(sequence, Distribution::Normal, first, out, |o, z| *o += T::of(f64::from(sigma * z)));
    }
}

/// The CUDA kernels: `cuda/augment.cu`.
pub mod cuda {
    use super::Args;
    use crate::gpu::launch::{Launch, f32, i32, int, span_of, threads_per_row, u32};
    use crate::gpu::{Gpu, GpuError};

    /// n images out of `count` of h×w×c, augmented. Spans: images, index, seed (2 words), step (1), the result.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
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
            span_of::<u8>("images", count * pixels),
            size(count)?,
            span_of::<i32>("index", n),
            size(n)?,
            size(h)?,
            size(w)?,
            size(c)?,
            size(args.pad)?,
            i32(args.flip.into()),
            f32(f64::from(args.sigma)),
            span_of::<i32>("seed", 2),
            span_of::<i32>("step", 1),
            u32(0),
            u32(stream),
            span_of::<f32>("out", n * pixels),
        ];
        // SAFETY: the kernel reads n indices, images only where the index lies inside, two words of the seed and one of
        // the step; it writes n images.
        unsafe { Launch::new(gpu, "augment", "augment_f32", threads_per_row(pixels.div_ceil(4), n), params) }
    }
}

#[cfg(test)]
mod tests;
