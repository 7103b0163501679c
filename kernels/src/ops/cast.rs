//! Conversions between float32 and bf16: rounded to nearest, ties to even.

use crate::dtype::bf16;

/// Rounds each value to bf16.
pub fn narrow(x: &[f32], out: &mut [bf16]) {
    out.iter_mut().zip(x).for_each(|(o, &x)| *o = bf16::from_f32(x));
}

/// Converts each value to float32, which is exact.
pub fn widen(x: &[bf16], out: &mut [f32]) {
    out.iter_mut().zip(x).for_each(|(o, x)| *o = x.to_f32());
}

/// The CUDA kernels: `cuda/cast.cu`.
pub mod cuda {
    use crate::gpu::launch::{Float, Launch, i64, span_of, threads};
    use crate::gpu::{Gpu, GpuError};

    /// Elements that a thread takes at once.
    const QUAD: usize = 4;

    /// n values from float32 to bf16. Spans: x, out.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn to_bf16(gpu: &Gpu, n: usize) -> Result<Launch, GpuError> {
        let params = vec![span_of::<f32>("x", n), Float::Bf16.span_of("out", n), i64(n)];
        // SAFETY: the kernel reads n values and writes n.
        unsafe { Launch::new(gpu, "cast", "cast_bf16", threads(n.div_ceil(QUAD)), params) }
    }

    /// n values from bf16 to float32. Spans: x, out.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn to_f32(gpu: &Gpu, n: usize) -> Result<Launch, GpuError> {
        let params = vec![Float::Bf16.span_of("x", n), span_of::<f32>("out", n), i64(n)];
        // SAFETY: the kernel reads n values and writes n.
        unsafe { Launch::new(gpu, "cast", "cast_f32", threads(n.div_ceil(QUAD)), params) }
    }
}
