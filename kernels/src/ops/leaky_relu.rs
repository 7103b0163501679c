//! Leaky ReLU: y = x for x ≥ 0, leak·x below; and its gradient.

use crate::cpu::{Cpu, GRAIN, Real, for_parts, simd::multiversion};

multiversion! {
    fn forward<T: Real>(x: &[T], y: &mut [T], leak: T) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = if x < T::ZERO { x * leak } else { x };
        }
    }
}

multiversion! {
    fn backward<T: Real>(x: &[T], dy: &[T], dx: &mut [T], leak: T) {
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            *dx = if x > T::ZERO { dy } else { dy * leak };
        }
    }
}

/// y from x, elementwise.
pub fn cpu<T: Real>(cpu: &Cpu, leak: f64, x: &[T], y: &mut [T]) {
    for_parts(cpu, y, GRAIN, |t, y| forward(cpu.simd, &x[t * GRAIN..], y, T::of(leak)));
}

/// dx from x and dy, elementwise; the derivative at 0 is the leak, as in PyTorch.
pub fn grad_cpu<T: Real>(cpu: &Cpu, leak: f64, x: &[T], dy: &[T], dx: &mut [T]) {
    for_parts(cpu, dx, GRAIN, |t, dx| {
        let at = t * GRAIN;
        backward(cpu.simd, &x[at..], &dy[at..], dx, T::of(leak));
    });
}

/// The CUDA kernels: `cuda/leaky_relu.cu`.
pub mod cuda {
    use crate::gpu::launch::{Float, Launch, f32, i64, kernel, threads};
    use crate::gpu::{Gpu, GpuError};

    /// y of n elements. Spans: x, y, which may be x.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn forward(gpu: &Gpu, float: Float, leak: f64, n: usize) -> Result<Launch, GpuError> {
        let params = vec![float.span_of("x", n), i64(n), f32(leak), float.span_of("y", n)];
        let size = threads(n.div_ceil(float.pack()));
        // SAFETY: the kernel reads n elements and writes n.
        unsafe { Launch::new(gpu, "leaky_relu", kernel!(float, "leaky_relu"), size, params) }
    }

    /// dx of n elements. Spans: x, dy, dx, which may be either.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn grad(gpu: &Gpu, float: Float, leak: f64, n: usize) -> Result<Launch, GpuError> {
        let params =
            vec![float.span_of("x", n), float.span_of("dy", n), i64(n), f32(leak), float.span_of("dx", n)];
        let size = threads(n.div_ceil(float.pack()));
        // SAFETY: the kernel reads two vectors of n elements and writes a third.
        unsafe { Launch::new(gpu, "leaky_relu", kernel!(float, "leaky_relu_grad"), size, params) }
    }
}

#[cfg(test)]
mod tests;
