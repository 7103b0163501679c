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

/// The CUDA kernels: `cuda/bn_running_update.cu`.
pub mod cuda {
    use super::Fold;
    use crate::gpu::launch::{Launch, f32, i32, int, optional, span_of, table, threads};
    use crate::gpu::{Gpu, GpuError};

    /// r' from `r[c]`, `s[groups, c]` and the accumulator `[c]`. Spans: r, s, the accumulator (optional), r' (which may
    /// be r).
    ///
    /// # Errors
    /// If the order names a group that is not there; errors of compiling and loading the kernel.
    pub fn update(
        gpu: &Gpu,
        momentum: f64,
        order: &[Fold],
        correct: &[f64],
        c: usize,
    ) -> Result<Launch, GpuError> {
        let (mut groups, mut factors) = (Vec::new(), Vec::new());
        for fold in order {
            match *fold {
                Fold::Group(g) => {
                    let known = correct.get(g).ok_or_else(|| {
                        GpuError::shape("bn_running_update", format!("there is no group {g}"))
                    })?;
                    groups.push(int("bn_running_update", g)?);
                    factors.push(*known as f32);
                }
                Fold::Steps(m) => {
                    groups.push(-1);
                    factors.push((1.0 - momentum).powi(m as i32) as f32);
                }
            }
        }
        let folds = int("bn_running_update", groups.len())?;
        let channels = int("bn_running_update", c)?;
        // With an accumulator its span is a must, so that the kernel never follows a null pointer.
        let acc = if groups.contains(&-1) { span_of::<f32>("acc", c) } else { optional::<f32>("acc", c) };
        let params = vec![
            span_of::<f32>("r", c),
            span_of::<f32>("s", correct.len() * c),
            acc,
            table(gpu, &groups)?,
            table(gpu, &factors)?,
            i32(folds),
            i32(channels),
            f32(1.0 - momentum),
            f32(momentum),
            span_of::<f32>("out", c),
        ];
        // SAFETY: the kernel reads c values of r, of the groups named in the order (all below `correct.len()`) and, if
        // the order has an accumulator, of that; it writes c values. The tables have `folds` entries.
        unsafe { Launch::new(gpu, "bn_running_update", "bn_running_update", threads(c), params) }
    }
}
