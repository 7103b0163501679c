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

/// The CUDA arm: `cuda/softmax_cross_entropy.cu`.
pub mod cuda {
    use crate::gpu::launch::{Launch, i64, of, warps};
    use crate::gpu::{Gpu, GpuError};

    /// The loss of each row. Spans: x, label, loss.
    ///
    /// # Errors
    /// What compiling and loading give.
    pub fn loss(gpu: &Gpu, rows: usize, cols: usize) -> Result<Launch, GpuError> {
        let (x, label) = (of::<f32>("x", rows * cols), of::<i32>("label", rows));
        let params = vec![x, label, of::<f32>("loss", rows), i64(rows), i64(cols)];
        // SAFETY: the kernel reads rows × cols logits and rows labels, and writes rows losses; the block is whole warps.
        unsafe { Launch::new(gpu, "softmax_cross_entropy", "softmax_cross_entropy_f32", warps(rows), params) }
    }

    /// Its gradient. Spans: x, label, dloss, dx.
    ///
    /// # Errors
    /// What compiling and loading give.
    pub fn grad(gpu: &Gpu, rows: usize, cols: usize) -> Result<Launch, GpuError> {
        let (x, label) = (of::<f32>("x", rows * cols), of::<i32>("label", rows));
        let (dloss, dx) = (of::<f32>("dloss", rows), of::<f32>("dx", rows * cols));
        let params = vec![x, label, dloss, dx, i64(rows), i64(cols)];
        let (stem, name) = ("softmax_cross_entropy", "softmax_cross_entropy_grad_f32");
        // SAFETY: the kernel reads rows × cols logits, rows labels and gradients, and writes rows × cols values.
        unsafe { Launch::new(gpu, stem, name, warps(rows), params) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_logits_keep_the_digits_of_the_loss() {
        let mut loss = [0.0f32; 2];
        cpu(2, &[3e6, 3e6, -1e7, -1e7 + 1.0], &[0, 1], &mut loss);
        assert_eq!(loss, [core::f32::consts::LN_2, (1.0f32 + (-1.0f32).exp()).ln()]);
        cpu(2, &[0.0, 1.0, 2.0, 3.0], &[2, -1], &mut loss);
        assert!(loss.iter().all(|v| v.is_nan()));
    }
}
