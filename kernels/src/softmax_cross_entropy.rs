//! −log p(label) under the softmax of the logits, and its gradient. A label outside `0..c` gives NaN.

use crate::cpu::Real;

/// loss[n] = logsumexp(x[n, ·]) − x[n, label[n]].
pub fn cpu<T: Real>(c: usize, x: &[T], label: &[i32], loss: &mut [T]) {
    crate::logsumexp::cpu(c, x, loss);
    for ((loss, x), &l) in loss.iter_mut().zip(x.chunks_exact(c)).zip(label) {
        let logit = usize::try_from(l).ok().and_then(|l| x.get(l)).copied();
        *loss = *loss - logit.unwrap_or(T::of(f64::NAN));
    }
}

/// dx[n, c] = dloss[n]·(softmax(x)[n, c] − [c = label[n]]).
pub fn grad_cpu<T: Real>(c: usize, x: &[T], label: &[i32], dloss: &[T], dx: &mut [T]) {
    crate::logsumexp::softmax(c, x, dx);
    for ((dx, &l), &g) in dx.chunks_exact_mut(c).zip(label).zip(dloss) {
        match usize::try_from(l).ok().and_then(|l| dx.get_mut(l)) {
            Some(p) => *p = *p - T::ONE,
            None => dx.fill(T::of(f64::NAN)),
        }
        dx.iter_mut().for_each(|d| *d = *d * g);
    }
}
