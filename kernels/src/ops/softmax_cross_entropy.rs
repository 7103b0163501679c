//! −log p(label) under the softmax of the logits, and its gradient. A label outside `0..c` gives NaN.

use crate::cpu::Real;

/// `loss[n]` = logsumexp(`x[n, ·]`) − x[n, `label[n]`]; large logits cancel before small terms are added.
pub fn cpu<T: Real>(c: usize, x: &[T], label: &[i32], loss: &mut [T]) {
    for ((loss, x), &l) in loss.iter_mut().zip(x.chunks_exact(c)).zip(label) {
        let logit = usize::try_from(l).ok().and_then(|l| x.get(l)).copied();
        let (m, rest) = crate::ops::logsumexp::parts(x);
        *loss = (m - logit.unwrap_or(T::of(f64::NAN))) + rest;
    }
}

/// `dx[n, c]` = `dloss[n]`·(softmax(x)`[n, c]` − [c = `label[n]`]).
pub fn grad_cpu<T: Real>(c: usize, x: &[T], label: &[i32], dloss: &[T], dx: &mut [T]) {
    crate::ops::logsumexp::softmax(c, x, dx);
    for ((dx, &l), &g) in dx.chunks_exact_mut(c).zip(label).zip(dloss) {
        match usize::try_from(l).ok().and_then(|l| dx.get_mut(l)) {
            Some(p) => *p = *p - T::ONE,
            None => dx.fill(T::of(f64::NAN)),
        }
        dx.iter_mut().for_each(|d| *d = *d * g);
    }
}

/// The CUDA kernels: `cuda/softmax_cross_entropy.cu`.
pub mod cuda {
    use crate::gpu::launch::{Launch, i64, span_of, warps};
    use crate::gpu::{Gpu, GpuError};

    /// The loss of each row. Spans: x, label, loss.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn loss(gpu: &Gpu, rows: usize, cols: usize) -> Result<Launch, GpuError> {
        let (x, label) = (span_of::<f32>("x", rows * cols), span_of::<i32>("label", rows));
        let params = vec![x, label, span_of::<f32>("loss", rows), i64(rows), i64(cols)];
        // SAFETY: the kernel reads rows × cols logits and rows labels, and writes rows losses; the block is whole
        // warps.
        unsafe { Launch::new(gpu, "softmax_cross_entropy", "softmax_cross_entropy_f32", warps(rows), params) }
    }

    /// Its gradient. Spans: x, label, dloss, dx.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn grad(gpu: &Gpu, rows: usize, cols: usize) -> Result<Launch, GpuError> {
        let (x, label) = (span_of::<f32>("x", rows * cols), span_of::<i32>("label", rows));
        let (dloss, dx) = (span_of::<f32>("dloss", rows), span_of::<f32>("dx", rows * cols));
        let params = vec![x, label, dloss, dx, i64(rows), i64(cols)];
        let (op, name) = ("softmax_cross_entropy", "softmax_cross_entropy_grad_f32");
        // SAFETY: the kernel reads rows × cols logits, rows labels and gradients, and writes rows × cols values.
        unsafe { Launch::new(gpu, op, name, warps(rows), params) }
    }
}

#[cfg(test)]
mod tests;
