//! Inverted dropout: each value is dropped or scaled by 1/(1 − rate), by the Philox uniform of its element.

use crate::cpu::{Cpu, GRAIN, Real, copy_unless_in_place, for_parts, simd::multiversion};
use crate::ops::noise::{Distribution, RandomSequence, draw};

/// The group of four elements at which the masks of a layer begin: layers use the same stream and step, but different
/// uniforms.
#[must_use]
pub(crate) fn first_group(layer: u32) -> u64 {
    u64::from(layer) << 32
}

/// The factor of the values that are kept.
fn scale(rate: f64) -> f64 {
    1.0 / (1.0 - rate)
}

multiversion! {
    fn drop_and_scale<T: Real>(sequence: RandomSequence, rate: f32, scale: T, first: u64, y: &mut [T]) {
        draw(sequence, Distribution::Uniform, first, y, |y, u| *y = if u < rate { T::ZERO } else { *y * scale });
    }
}

/// `y[i]` = 0 where the uniform of element i is below the rate, else `x[i]`/(1 − rate); `x` = `None` means that `y`
/// holds x. The uniforms are drawn in float32 for any T.
pub fn cpu<T: Real>(
    cpu: &Cpu,
    sequence: RandomSequence,
    layer: u32,
    rate: f64,
    x: Option<&[T]>,
    y: &mut [T],
) {
    for_parts(cpu, y, GRAIN, |t, y| {
        copy_unless_in_place(x, t * GRAIN, y);
        let first = first_group(layer) + (t * GRAIN / 4) as u64;
        drop_and_scale(cpu.simd, sequence, rate as f32, T::of(scale(rate)), first, y);
    });
}

/// The CUDA kernels: `cuda/dropout.cu`.
pub mod cuda {
    use crate::gpu::launch::{Float, Launch, PACK, f32, i64, kernel, span_of, threads, u32};
    use crate::gpu::{Gpu, GpuError};

    /// Dropout of n values. Spans: x, seed (2 words), step (1), y, which may be x.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn forward(
        gpu: &Gpu,
        float: Float,
        stream: u32,
        layer: u32,
        rate: f64,
        n: usize,
    ) -> Result<Launch, GpuError> {
        let params = vec![
            float.span_of("x", n),
            span_of::<i32>("seed", 2),
            span_of::<i32>("step", 1),
            u32(stream),
            u32(layer),
            f32(rate),
            f32(super::scale(rate)),
            i64(n),
            float.span_of("y", n),
        ];
        // SAFETY: the kernel reads n values, two words of the seed and one of the step, and writes n values.
        unsafe { Launch::new(gpu, "dropout", kernel!(float, "dropout"), threads(n.div_ceil(PACK)), params) }
    }
}

#[cfg(test)]
mod tests;
