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
