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

/// p[n, c] = exp(x[n, c]) / Σ exp(x[n, ·]).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_and_nan_are_what_mathematics_says() {
        const INF: f32 = f32::INFINITY;
        let rows = [[0.0, INF], [-INF, INF], [-INF, 2.5], [-INF, -INF], [INF, f32::NAN], [f32::NAN, -INF]];
        let mut y = [0.0f32; 6];
        cpu(2, rows.as_flattened(), &mut y);
        assert_eq!(y[..4], [INF, INF, 2.5, -INF]);
        assert!(y[4].is_nan() && y[5].is_nan());
    }
}
