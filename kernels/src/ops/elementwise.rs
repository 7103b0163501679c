//! a·x + b·y and x·y, elementwise.

use crate::cpu::{Cpu, GRAIN, Real, for_parts, simd::multiversion};

multiversion! {
    fn axpby_body<T: Real>(a: T, x: &[T], b: T, y: &[T], out: &mut [T]) {
        for ((o, &x), &y) in out.iter_mut().zip(x).zip(y) {
            *o = a * x + b * y;
        }
    }
}

multiversion! {
    fn axpby_place<T: Real>(a: T, b: T, y: &[T], out: &mut [T]) {
        for (o, &y) in out.iter_mut().zip(y) {
            *o = a * *o + b * y;
        }
    }
}

multiversion! {
    fn mul_body<T: Real>(x: &[T], y: &[T], out: &mut [T]) {
        for ((o, &x), &y) in out.iter_mut().zip(x).zip(y) {
            *o = x * y;
        }
    }
}

/// out = a·x + b·y; `x` = `None` means that `out` holds x.
pub fn axpby<T: Real>(cpu: &Cpu, a: f64, x: Option<&[T]>, b: f64, y: &[T], out: &mut [T]) {
    let (a, b) = (T::of(a), T::of(b));
    for_parts(cpu, out, GRAIN, |t, out| {
        let at = t * GRAIN;
        match x {
            Some(x) => axpby_body(cpu.simd, a, &x[at..], b, &y[at..], out),
            None => axpby_place(cpu.simd, a, b, &y[at..], out),
        }
    });
}

/// out = x·y.
pub fn mul<T: Real>(cpu: &Cpu, x: &[T], y: &[T], out: &mut [T]) {
    for_parts(cpu, out, GRAIN, |t, out| {
        let at = t * GRAIN;
        mul_body(cpu.simd, &x[at..], &y[at..], out);
    });
}

/// The CUDA kernels: `cuda/elementwise.cu`, and those of `cuda/reduce.cu` that are elementwise.
pub mod cuda {
    use crate::gpu::launch::{Float, Launch, f32, i64, kernel, table, threads};
    use crate::gpu::{Gpu, GpuError};

    /// a·x + b·y of n elements. Spans: x, y, the result, which may be either.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn axpby(gpu: &Gpu, float: Float, a: f64, b: f64, n: usize) -> Result<Launch, GpuError> {
        let params = vec![
            f32(a),
            float.span_of("x", n),
            f32(b),
            float.span_of("y", n),
            i64(n),
            float.span_of("out", n),
        ];
        let size = threads(n.div_ceil(float.pack()));
        // SAFETY: the kernel reads two vectors of n elements and writes a third.
        unsafe { Launch::new(gpu, "elementwise", kernel!(float, "axpby"), size, params) }
    }

    /// a·x of n elements. Spans: x, the result, which may be x.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn scale(gpu: &Gpu, float: Float, a: f64, n: usize) -> Result<Launch, GpuError> {
        let params =
            vec![float.span_of("x", n), table(gpu, &[a as f32])?, i64(1), i64(n), float.span_of("out", n)];
        // SAFETY: the kernel reads one row of n elements and one factor, and writes one row.
        unsafe { Launch::new(gpu, "reduce", kernel!(float, "mul_rows"), threads(n), params) }
    }

    /// x·y of n elements. Spans: x, y, the result.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn mul(gpu: &Gpu, float: Float, n: usize) -> Result<Launch, GpuError> {
        let params = vec![float.span_of("x", n), float.span_of("y", n), i64(n), float.span_of("out", n)];
        let size = threads(n.div_ceil(float.pack()));
        // SAFETY: the kernel reads two vectors of n elements and writes a third.
        unsafe { Launch::new(gpu, "elementwise", kernel!(float, "mul"), size, params) }
    }

    /// Fills n elements with one value. Spans: the result.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn fill(gpu: &Gpu, float: Float, value: f64, n: usize) -> Result<Launch, GpuError> {
        let params = vec![table(gpu, &[1.0f32])?, f32(value), i64(n), float.span_of("out", n)];
        // SAFETY: the kernel reads one value and writes n.
        unsafe { Launch::new(gpu, "reduce", kernel!(float, "spread"), threads(n), params) }
    }
}
