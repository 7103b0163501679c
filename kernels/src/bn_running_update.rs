//! Running statistics: r ← (1 − μ)·r + μ·s for the statistics s of one pass after another, in a given order.
//!
//! The chain steps of a sampling round fold their statistics into an accumulator that starts at zero; because the
//! update is affine in r, M of them after r are (1 − μ)^M·r + accumulator.

use crate::cpu::Real;

/// One step of the order in which passes update the running statistics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fold {
    /// The statistics of a group of the pass.
    Group(usize),
    /// An accumulator holding this many steps.
    Steps(u32),
}

/// r' from `r[c]`, the group statistics `s[g, c]` and, if the order has [`Fold::Steps`], the accumulator.
/// Group g's statistics are scaled by `correct[g]` first (n/(n−1) for variances). `r` = `None`: `out` holds r.
pub fn cpu<T: Real>(
    momentum: f64,
    order: &[Fold],
    correct: &[f64],
    r: Option<&[T]>,
    s: &[T],
    acc: Option<&[T]>,
    out: &mut [T],
) {
    if let Some(r) = r {
        out.copy_from_slice(r);
    }
    let c = out.len();
    let (keep, take) = (T::of(1.0 - momentum), T::of(momentum));
    for fold in order {
        match *fold {
            Fold::Group(g) => {
                let k = T::of(correct[g]);
                for (o, &s) in out.iter_mut().zip(&s[g * c..]) {
                    *o = keep * *o + take * (s * k);
                }
            }
            Fold::Steps(m) => {
                let keep = T::of((1.0 - momentum).powi(m as i32));
                if let Some(acc) = acc {
                    out.iter_mut().zip(acc).for_each(|(o, &a)| *o = keep * *o + a);
                }
            }
        }
    }
}
