//! The statistics of a whole image from those of its channels: what group normalisation with one group of channels
//! (layer norm over images) needs beyond [`crate::ops::bn_stats`].
//!
//! All channels of a group have equally many values, so by Chan, Golub, LeVeque (1979) M = Σ mᵢ/C and
//! V = Σ (vᵢ + (mᵢ − M)²)/C. Sums are formed in order, in float64.

use crate::cpu::Real;

fn mean_of<T: Real>(row: &[T]) -> f64 {
    row.iter().map(|v| v.to_f64()).sum::<f64>() / row.len() as f64
}

/// M and V of each row of `mean[g, c]` and biased `var[g, c]`, repeated in all channels of the row.
pub fn cpu<T: Real>(c: usize, mean: &[T], var: &[T], all_mean: &mut [T], all_var: &mut [T]) {
    let out = all_mean.chunks_exact_mut(c).zip(all_var.chunks_exact_mut(c));
    for ((mean, var), (all_mean, all_var)) in mean.chunks_exact(c).zip(var.chunks_exact(c)).zip(out) {
        let m = mean_of(mean);
        let spread = |(v, x): (&T, &T)| v.to_f64() + (x.to_f64() - m) * (x.to_f64() - m);
        let v = var.iter().zip(mean).map(spread).sum::<f64>() / c as f64;
        all_mean.fill(T::of(m));
        all_var.fill(T::of(v));
    }
}

/// Gradients of mean and var from those of M and V in each channel: with a = Σ dM/C and b = Σ dV/C,
/// dmean = a + 2b·(mᵢ − M) and dvar = b.
pub fn grad_cpu<T: Real>(c: usize, mean: &[T], d_mean: &[T], d_var: &[T], dmean: &mut [T], dvar: &mut [T]) {
    let rows = mean.chunks_exact(c).zip(d_mean.chunks_exact(c)).zip(d_var.chunks_exact(c));
    let out = dmean.chunks_exact_mut(c).zip(dvar.chunks_exact_mut(c));
    for (((mean, d_mean), d_var), (dmean, dvar)) in rows.zip(out) {
        let (m, a, b) = (mean_of(mean), mean_of(d_mean), mean_of(d_var));
        for (d, x) in dmean.iter_mut().zip(mean) {
            *d = T::of(a + 2.0 * b * (x.to_f64() - m));
        }
        dvar.fill(T::of(b));
    }
}

/// The CUDA kernels: `cuda/layer_stats.cu`.
pub mod cuda {
    use crate::gpu::launch::{Launch, i32, i64, int, span_of, warps};
    use crate::gpu::{Gpu, GpuError};

    /// M and V in each channel. Spans: mean, var, M, V.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn forward(gpu: &Gpu, groups: usize, c: usize) -> Result<Launch, GpuError> {
        let n = groups * c;
        let sizes = [i64(groups), i32(int("layer_stats", c)?)];
        let mut params = vec![span_of::<f32>("mean", n), span_of::<f32>("var", n)];
        params.extend(sizes);
        params.extend([span_of::<f32>("all mean", n), span_of::<f32>("all var", n)]);
        // SAFETY: the kernel reads and writes two groups × c matrices; the block is whole warps.
        unsafe { Launch::new(gpu, "layer_stats", "layer_stats", warps(groups), params) }
    }

    /// dmean and dvar. Spans: mean, dM, dV, dmean, dvar.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn grad(gpu: &Gpu, groups: usize, c: usize) -> Result<Launch, GpuError> {
        let n = groups * c;
        let sizes = [i64(groups), i32(int("layer_stats", c)?)];
        let mut params = vec![span_of::<f32>("mean", n), span_of::<f32>("dM", n), span_of::<f32>("dV", n)];
        params.extend(sizes);
        params.extend([span_of::<f32>("dmean", n), span_of::<f32>("dvar", n)]);
        // SAFETY: the kernel reads three and writes two groups × c matrices; the block is whole warps.
        unsafe { Launch::new(gpu, "layer_stats", "layer_stats_grad", warps(groups), params) }
    }
}

#[cfg(test)]
mod tests;
