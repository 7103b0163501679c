//! The energy: f(x) = logsumexp of the logits, and softmax, its gradient.

use crate::cpu::Real;

fn largest<T: Real>(x: &[T]) -> T {
    x.iter().fold(x[0], |m, &v| m.larger(v))
}

/// logsumexp of one row in two parts, the largest and what exceeds it; so it neither overflows nor loses digits.
/// A row with a NaN gives NaN; else one with +inf gives +inf, and one of −inf only gives −inf.
pub(crate) fn parts<T: Real>(x: &[T]) -> (T, T) {
    let m = largest(x);
    if m.to_f64().is_infinite() {
        let nan = x.iter().find(|v| v.to_f64().is_nan());
        return (m, nan.copied().unwrap_or(T::ZERO));
    }
    (m, x.iter().fold(T::ZERO, |s, &v| s + (v - m).exp()).ln())
}

/// `y[n]` = ln Σ_c exp(`x[n, c]`).
pub fn cpu<T: Real>(c: usize, x: &[T], y: &mut [T]) {
    for (y, x) in y.iter_mut().zip(x.chunks_exact(c)) {
        let (m, rest) = parts(x);
        *y = m + rest;
    }
}

/// `p[n, c]` = exp(`x[n, c]`) / Σ exp(x[n, ·]).
pub fn softmax<T: Real>(c: usize, x: &[T], p: &mut [T]) {
    for (p, x) in p.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
        let m = largest(x);
        p.iter_mut().zip(x).for_each(|(p, &v)| *p = (v - m).exp());
        let sum = p.iter().fold(T::ZERO, |s, &v| s + v);
        p.iter_mut().for_each(|p| *p = *p / sum);
    }
}

/// dx = p·(u − Σ u·p): the gradient of [`softmax`] from p and u = dp.
pub fn softmax_grad<T: Real>(c: usize, p: &[T], u: &[T], dx: &mut [T]) {
    for ((dx, p), u) in dx.chunks_exact_mut(c).zip(p.chunks_exact(c)).zip(u.chunks_exact(c)) {
        let dot = p.iter().zip(u).fold(T::ZERO, |s, (&p, &u)| s + p * u);
        dx.iter_mut().zip(p).zip(u).for_each(|((d, &p), &u)| *d = p * (u - dot));
    }
}

/// The CUDA kernels: `cuda/logsumexp.cu`.
pub mod cuda {
    use crate::gpu::launch::{Launch, NULL, i64, span_of, warps};
    use crate::gpu::{Gpu, GpuError};

    /// `f[n]` = ln Σ_c exp(`x[n, c]`) of a rows × cols matrix. Spans: x, f.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn logsumexp(gpu: &Gpu, rows: usize, cols: usize) -> Result<Launch, GpuError> {
        let params = vec![span_of::<f32>("x", rows * cols), span_of::<f32>("f", rows), i64(rows), i64(cols)];
        // SAFETY: the kernel reads rows × cols values and writes rows; the block is whole warps.
        unsafe { Launch::new(gpu, "logsumexp", "logsumexp_rows_f32", warps(rows), params) }
    }

    /// p = softmax(x) of a rows × cols matrix. Spans: x, p.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn softmax(gpu: &Gpu, rows: usize, cols: usize) -> Result<Launch, GpuError> {
        let n = rows * cols;
        let params = vec![span_of::<f32>("x", n), NULL, span_of::<f32>("p", n), i64(rows), i64(cols)];
        // SAFETY: the kernel reads and writes rows × cols values; a null scale stands for ones.
        unsafe { Launch::new(gpu, "logsumexp", "softmax_rows_f32", warps(rows), params) }
    }

    /// p·(u − Σ u·p) of rows × cols matrices. Spans: p, u, the result.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn softmax_grad(gpu: &Gpu, rows: usize, cols: usize) -> Result<Launch, GpuError> {
        let n = rows * cols;
        let params = vec![
            span_of::<f32>("p", n),
            span_of::<f32>("u", n),
            span_of::<f32>("dx", n),
            i64(rows),
            i64(cols),
        ];
        // SAFETY: the kernel reads two matrices of rows × cols values and writes a third.
        unsafe { Launch::new(gpu, "logsumexp", "softmax_grad_f32", warps(rows), params) }
    }
}

#[cfg(test)]
mod tests;
