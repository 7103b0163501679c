//! Slices of a batch: taking rows out, and putting them back among zeros. Concatenation is copying.

/// Puts `x` at row `start` of `out` (rows of `row` elements) and zeros elsewhere.
pub fn embed<T: Copy + Default>(row: usize, start: usize, x: &[T], out: &mut [T]) {
    let at = start * row;
    out[..at].fill(T::default());
    out[at..at + x.len()].copy_from_slice(x);
    out[at + x.len()..].fill(T::default());
}

/// The CUDA kernels: `cuda/batch.cu`.
pub mod cuda {
    use crate::gpu::launch::{Float, Launch, i64, kernel, threads};
    use crate::gpu::{Gpu, GpuError};

    /// Copies elements `at..at + n` of `x_len` to `out_at..` of `out_len`. Spans: x, out.
    ///
    /// # Errors
    /// If they are out of bounds; errors of compiling and loading the kernel.
    pub fn copy(
        gpu: &Gpu,
        float: Float,
        (x_len, at): (usize, usize),
        n: usize,
        (out_len, out_at): (usize, usize),
    ) -> Result<Launch, GpuError> {
        if at + n > x_len || out_at + n > out_len {
            return Err(GpuError::shape("copy", format!("{n} at {at} of {x_len} to {out_at} of {out_len}")));
        }
        let params =
            vec![float.span_of("x", x_len), i64(at), float.span_of("out", out_len), i64(out_at), i64(n)];
        let size = threads(n.div_ceil(float.pack()));
        // SAFETY: the kernel reads n elements from `at` on and writes n from `out_at` on, both inside, as checked.
        unsafe { Launch::new(gpu, "batch", kernel!(float, "copy"), size, params) }
    }

    /// `n` elements at `at` of `out_len`, zeros elsewhere. Spans: x, out.
    ///
    /// # Errors
    /// If they are out of bounds; errors of compiling and loading the kernel.
    pub fn embed(gpu: &Gpu, float: Float, n: usize, at: usize, out_len: usize) -> Result<Launch, GpuError> {
        if at + n > out_len {
            return Err(GpuError::shape("embed", format!("{n} at {at} of {out_len}")));
        }
        let params =
            vec![float.span_of("x", n), i64(at), i64(n), float.span_of("out", out_len), i64(out_len)];
        // SAFETY: the kernel reads n elements and writes all of the result.
        unsafe { Launch::new(gpu, "batch", kernel!(float, "embed"), threads(out_len), params) }
    }
}
