//! Softplus: y = ln(1 + eˣ), which is −ln σ(−x); and its gradient. Computed in float64, rounded once.

use crate::cpu::Real;

/// y from x, elementwise.
pub fn cpu<T: Real>(x: &[T], y: &mut [T]) {
    for (y, x) in y.iter_mut().zip(x) {
        let x = x.to_f64();
        // The exponential cannot overflow. Not `max`, which would drop a NaN.
        let above = if x < 0.0 { 0.0 } else { x };
        *y = T::of(above + (-x.abs()).exp().ln_1p());
    }
}

/// dx = dy·σ(x), elementwise.
pub fn grad_cpu<T: Real>(x: &[T], dy: &[T], dx: &mut [T]) {
    for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
        *dx = T::of(dy.to_f64() / (1.0 + (-x.to_f64()).exp()));
    }
}

/// The CUDA kernels: `cuda/softplus.cu`.
pub mod cuda {
    use crate::gpu::launch::{Launch, i64, span_of, threads};
    use crate::gpu::{Gpu, GpuError};

    /// y of n elements. Spans: x, y, which may be x.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn forward(gpu: &Gpu, n: usize) -> Result<Launch, GpuError> {
        let params = vec![span_of::<f32>("x", n), i64(n), span_of::<f32>("y", n)];
        // SAFETY: the kernel reads n elements and writes n.
        unsafe { Launch::new(gpu, "softplus", "softplus", threads(n), params) }
    }

    /// dx of n elements. Spans: x, dy, dx, which may be either.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn grad(gpu: &Gpu, n: usize) -> Result<Launch, GpuError> {
        let params = vec![span_of::<f32>("x", n), span_of::<f32>("dy", n), i64(n), span_of::<f32>("dx", n)];
        // SAFETY: the kernel reads two vectors of n elements and writes a third.
        unsafe { Launch::new(gpu, "softplus", "softplus_grad", threads(n), params) }
    }
}
