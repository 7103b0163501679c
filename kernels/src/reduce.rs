//! Sums: over all rows of a matrix, over everything, and their transposes.

use crate::cpu::{Cpu, Real, for_parts, simd::multiversion};

/// Rows a task adds up, so that the order of additions never depends on threads.
const ROWS: usize = 256;

multiversion! {
    fn add_rows<T: Real>(x: &[T], c: usize, acc: &mut [T]) {
        acc.fill(T::ZERO);
        let span = acc.len();
        for x in x.chunks(span) {
            for (a, &x) in acc.iter_mut().zip(x) {
                *a += x;
            }
        }
        let (first, rest) = acc.split_at_mut(c);
        for r in rest.chunks_exact(c) {
            for (a, &r) in first.iter_mut().zip(r) {
                *a += r;
            }
        }
    }
}

fn span(c: usize) -> usize {
    c * crate::channels::repeats(c)
}

/// Elements of workspace of [`sum_rows`].
pub fn sum_rows_workspace(rows: usize, c: usize) -> usize {
    rows.div_ceil(ROWS) * span(c)
}

/// `out[c]` = Σ_r `x[r, c]`: partial sums of fixed runs of rows, added in order in float64.
pub fn sum_rows<T: Real>(cpu: &Cpu, c: usize, x: &[T], out: &mut [T], workspace: &mut [T]) {
    let span = span(c);
    for_parts(cpu, workspace, span, |t, acc| {
        let at = (t * ROWS * c).min(x.len());
        let end = (at + ROWS * c).min(x.len());
        add_rows(cpu.simd, &x[at..end], c, acc);
    });
    for (j, o) in out.iter_mut().enumerate() {
        *o = T::of(workspace.chunks_exact(span).map(|w| w[j].to_f64()).sum());
    }
}

/// `out[r, c]` = `v[c]`.
pub fn broadcast_rows<T: Real>(v: &[T], out: &mut [T]) {
    out.chunks_exact_mut(v.len().max(1)).for_each(|o| o.copy_from_slice(v));
}

/// factor · Σ x, in float64.
pub fn sum_all<T: Real>(factor: f64, x: &[T]) -> T {
    T::of(factor * x.chunks(1024).map(|c| c.iter().map(|v| v.to_f64()).sum::<f64>()).sum::<f64>())
}

/// `out[r, c]` = `x[r, c]`·`v[r]`.
pub fn mul_rows<T: Real>(x: &[T], v: &[T], out: &mut [T]) {
    let c = x.len() / v.len().max(1);
    for ((o, x), &v) in out.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(v) {
        o.iter_mut().zip(x).for_each(|(o, &x)| *o = x * v);
    }
}

/// `out[r]` = Σ_c `x[r, c]`·`y[r, c]`.
pub fn row_dot<T: Real>(x: &[T], y: &[T], out: &mut [T]) {
    let c = x.len() / out.len().max(1);
    for ((o, x), y) in out.iter_mut().zip(x.chunks_exact(c)).zip(y.chunks_exact(c)) {
        *o = x.iter().zip(y).fold(T::ZERO, |s, (&a, &b)| s + a * b);
    }
}
