//! Philox uniforms and normals, by element.

use crate::cpu::{Cpu, GRAIN, Real, for_parts, simd::multiversion};
use crate::philox::{Counter, GROUPS, normal_pair, uniform, words};

/// The distribution of the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Uniform on (0, 1).
    Uniform,
    /// Standard normal.
    Normal,
}

/// The random sequence to draw from: a seed's, for one stream and step.
#[derive(Clone, Copy, Debug)]
pub struct RandomSequence {
    /// Philox key.
    pub key: [u32; 2],
    /// The use of randomness.
    pub stream: u32,
    /// The repetition: an iteration, a chain step.
    pub step: u32,
}

/// Number of values that [`block`] draws.
pub(crate) const BLOCK: usize = 4 * GROUPS;

/// Elements 4·`first` … 4·`first` + [`BLOCK`] − 1. The loops have no branches, so that they vectorise in a body of
/// `multiversion!`.
#[inline(always)]
pub(crate) fn block(sequence: RandomSequence, distribution: Distribution, first: u64) -> [f32; BLOCK] {
    let first = Counter { element: first, step: sequence.step, stream: sequence.stream };
    let words = words(first, sequence.key);
    let mut out = [[0.0f32; 2]; BLOCK / 2];
    for (out, &[a, b]) in out.iter_mut().zip(&words) {
        *out = match distribution {
            Distribution::Uniform => [uniform(a), uniform(b)],
            Distribution::Normal => normal_pair(a, b).into(),
        };
    }
    bytemuck::cast(out)
}

/// Calls `f` with each element of `x` and the value drawn for it, from value 4·`first` on; whole blocks first, so that
/// they vectorise.
#[inline(always)]
pub(crate) fn draw<T>(
    sequence: RandomSequence,
    distribution: Distribution,
    first: u64,
    x: &mut [T],
    f: impl Fn(&mut T, f32),
) {
    let (blocks, rest) = x.as_chunks_mut::<BLOCK>();
    let last = first + (blocks.len() * GROUPS) as u64;
    for (i, x) in blocks.iter_mut().enumerate() {
        x.iter_mut()
            .zip(block(sequence, distribution, first + (i * GROUPS) as u64))
            .for_each(|(x, z)| f(x, z));
    }
    if !rest.is_empty() {
        rest.iter_mut().zip(block(sequence, distribution, last)).for_each(|(x, z)| f(x, z));
    }
}

multiversion! {
    fn fill<T: Real>(sequence: RandomSequence, distribution: Distribution, first: u64, out: &mut [T]) {
        let put = |o: &mut T, z: f32| *o = T::of(f64::from(z));
        // With a constant distribution only that one is computed; otherwise the compiler computes both.
        match distribution {
            Distribution::Uniform => draw(sequence, Distribution::Uniform, first, out, put),
            Distribution::Normal => draw(sequence, Distribution::Normal, first, out, put),
        }
    }
}

/// `out[i]` = the i-th value of `sequence`; drawn in float32 for any T.
pub fn cpu<T: Real>(cpu: &Cpu, sequence: RandomSequence, distribution: Distribution, out: &mut [T]) {
    for_parts(cpu, out, GRAIN, |t, out| fill(cpu.simd, sequence, distribution, (t * GRAIN / 4) as u64, out));
}

/// The CUDA kernels: `cuda/noise.cu`.
pub mod cuda {
    use super::Distribution;
    use crate::gpu::launch::{Launch, PACK, i64, span_of, threads, u32};
    use crate::gpu::{Gpu, GpuError};

    /// The first n values of the sequence of a seed, stream and step. Spans: seed (2 words), step (1), the result.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn fill(gpu: &Gpu, distribution: Distribution, stream: u32, n: usize) -> Result<Launch, GpuError> {
        let name = match distribution {
            Distribution::Uniform => "noise_uniform_f32",
            Distribution::Normal => "noise_normal_f32",
        };
        let params = vec![
            span_of::<i32>("seed", 2),
            span_of::<i32>("step", 1),
            u32(0),
            u32(stream),
            i64(n),
            span_of::<f32>("out", n),
        ];
        // SAFETY: the kernel reads two words of the seed and one of the step and writes n values.
        unsafe { Launch::new(gpu, "noise", name, threads(n.div_ceil(PACK)), params) }
    }
}
