//! Picking out a label's logit, its transpose, and counting hits. A label outside `0..c` gives NaN (0 hits).

use crate::cpu::Real;

fn index(label: i32, c: usize) -> Option<usize> {
    usize::try_from(label).ok().filter(|&l| l < c)
}

/// `y[n]` = x[n, `label[n]`].
pub fn gather<T: Real>(c: usize, x: &[T], label: &[i32], y: &mut [T]) {
    for ((y, x), &l) in y.iter_mut().zip(x.chunks_exact(c)).zip(label) {
        *y = index(l, c).map_or(T::of(f64::NAN), |l| x[l]);
    }
}

/// `x[n, c]` = `v[n]` where c = `label[n]`, else 0.
pub fn scatter<T: Real>(c: usize, v: &[T], label: &[i32], x: &mut [T]) {
    x.fill(T::ZERO);
    for ((x, &v), &l) in x.chunks_exact_mut(c).zip(v).zip(label) {
        match index(l, c) {
            Some(l) => x[l] = v,
            None => x.fill(T::of(f64::NAN)),
        }
    }
}

/// `y[n]` = 1 where the largest logit (the first of equals) is the label's, else 0.
pub fn hits<T: Real>(c: usize, x: &[T], label: &[i32], y: &mut [T]) {
    for ((y, x), &l) in y.iter_mut().zip(x.chunks_exact(c)).zip(label) {
        let best = x.iter().enumerate().fold(0, |b, (i, v)| if *v > x[b] { i } else { b });
        *y = if index(l, c) == Some(best) { T::ONE } else { T::ZERO };
    }
}
