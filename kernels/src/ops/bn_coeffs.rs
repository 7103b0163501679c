//! scale = gamma / √(var + eps), for each group and channel; and its gradient.

use crate::cpu::Real;

/// `scale[g, c]` from `var[g, c]` and `gamma[c]`.
pub fn cpu<T: Real>(eps: f64, var: &[T], gamma: &[T], scale: &mut [T]) {
    for (scale, var) in scale.chunks_exact_mut(gamma.len()).zip(var.chunks_exact(gamma.len())) {
        for ((s, &v), &g) in scale.iter_mut().zip(var).zip(gamma) {
            *s = g / (v + T::of(eps)).sqrt();
        }
    }
}

/// `dvar[g, c]` and `dgamma[c]` (summed over groups) from `dscale[g, c]`.
pub fn grad_cpu<T: Real>(eps: f64, var: &[T], gamma: &[T], dscale: &[T], dvar: &mut [T], dgamma: &mut [T]) {
    let c = gamma.len();
    dgamma.fill(T::ZERO);
    let rows = var.chunks_exact(c).zip(dscale.chunks_exact(c)).zip(dvar.chunks_exact_mut(c));
    for ((var, dscale), dvar) in rows {
        for i in 0..c {
            let v = var[i] + T::of(eps);
            let inv = T::ONE / v.sqrt();
            dgamma[i] += dscale[i] * inv;
            dvar[i] = T::of(-0.5) * dscale[i] * gamma[i] * inv / v;
        }
    }
}

/// The CUDA kernels: `cuda/bn_coeffs.cu`.
pub mod cuda {
    use crate::gpu::launch::{Launch, f32, i32, int, span_of, threads};
    use crate::gpu::{Gpu, GpuError};

    /// `scale[g, c]`. Spans: var, gamma, scale.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn forward(gpu: &Gpu, eps: f64, groups: usize, c: usize) -> Result<Launch, GpuError> {
        let (g, channels) = (int("bn_coeffs", groups)?, int("bn_coeffs", c)?);
        let n = groups * c;
        let params = vec![
            span_of::<f32>("var", n),
            span_of::<f32>("gamma", c),
            i32(g),
            i32(channels),
            f32(eps),
            span_of::<f32>("scale", n),
        ];
        // SAFETY: the kernel reads groups × c variances and c gammas, and writes groups × c scales.
        unsafe { Launch::new(gpu, "bn_coeffs", "bn_coeffs", threads(n), params) }
    }

    /// `dvar[g, c]` and `dgamma[c]`. Spans: var, gamma, dscale, dvar, dgamma.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn grad(gpu: &Gpu, eps: f64, groups: usize, c: usize) -> Result<Launch, GpuError> {
        let (g, channels) = (int("bn_coeffs", groups)?, int("bn_coeffs", c)?);
        let n = groups * c;
        let params = vec![
            span_of::<f32>("var", n),
            span_of::<f32>("gamma", c),
            span_of::<f32>("dscale", n),
            i32(g),
            i32(channels),
            f32(eps),
            span_of::<f32>("dvar", n),
            span_of::<f32>("dgamma", c),
        ];
        // SAFETY: the kernel reads groups × c variances and gradients and c gammas, and writes groups × c and c values.
        unsafe { Launch::new(gpu, "bn_coeffs", "bn_coeffs_grad", threads(c), params) }
    }
}
