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
/// Group g's statistics are scaled by `correct[g]` first (n/(n−1) for variances). `r` = `None`: `out` holds r. `offset[c]` is
/// what statistics and accumulator lack, beside what r has.
pub fn cpu<T: Real>(
    momentum: f64,
    order: &[Fold],
    correct: &[f64],
    r: Option<&[T]>,
    s: &[T],
    acc: Option<&[T]>,
    offset: Option<&[T]>,
    out: &mut [T],
) {
    if let Some(r) = r {
        out.copy_from_slice(r);
    }
    if let Some(offset) = offset {
        out.iter_mut().zip(offset).for_each(|(o, v)| *o = *o - *v);
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
    if let Some(offset) = offset {
        out.iter_mut().zip(offset).for_each(|(o, v)| *o += *v);
    }
}

/// The CUDA kernel: `cuda/bn_running_update.cu`.
pub mod cuda {
    use super::Fold;
    use crate::gpu::launch::{Launch, NULL, Param, Tensors, f32, i32, int, span_of, table, threads_per_row};
    use crate::gpu::{Gpu, GpuError};
    use crate::memory::Span;

    /// Running statistics that are updated.
    #[derive(Clone, Debug)]
    pub struct Tensor {
        /// Channels.
        pub c: usize,
        /// Factor of each group's statistics.
        pub correct: Vec<f64>,
        /// Whether there is something that the statistics lack.
        pub offset: bool,
    }

    /// Addresses of a tensor.
    const EACH: usize = 6;

    /// The launches that this many tensors take.
    pub fn launches(tensors: usize) -> usize {
        tensors.div_ceil(Tensors::most(EACH))
    }

    /// A prepared update of many tensors, in as few launches as their addresses fit into.
    #[derive(Debug)]
    pub struct Update {
        /// Each launch, and how many spans it takes.
        launches: Vec<(Launch, usize)>,
    }

    impl Update {
        /// Prepares an update.
        ///
        /// # Errors
        /// If the order names a group that is not there; errors of compiling and loading the kernel.
        pub fn new(gpu: &Gpu, momentum: f64, order: &[Fold], tensors: &[Tensor]) -> Result<Self, GpuError> {
            let launches = tensors.chunks(Tensors::most(EACH)).map(|some| one(gpu, momentum, order, some));
            Ok(Self { launches: launches.collect::<Result<_, _>>()? })
        }

        /// Submits one run. `spans`: of each tensor r, s, with [`Fold::Steps`] the accumulator, what they lack if anything,
        /// r' (which may be r) and with [`Fold::Steps`] where the accumulator is cleared (which may be where it is).
        ///
        /// # Errors
        /// If lengths do not fit; a driver error.
        pub fn run(&self, gpu: &Gpu, spans: &[Span<'_>]) -> Result<(), GpuError> {
            let mut rest = spans;
            for (launch, n) in &self.launches {
                let missing = || GpuError::shape("bn_running_update", "spans are missing");
                let (some, more) = rest.split_at_checked(*n).ok_or_else(missing)?;
                launch.run(gpu, &some.iter().copied().map(Some).collect::<Vec<_>>())?;
                rest = more;
            }
            Ok(())
        }
    }

    fn one(
        gpu: &Gpu,
        momentum: f64,
        order: &[Fold],
        tensors: &[Tensor],
    ) -> Result<(Launch, usize), GpuError> {
        let op = "bn_running_update";
        let steps = order.iter().any(|f| matches!(f, Fold::Steps(_)));
        let mut codes = Vec::new();
        for fold in order {
            codes.push(if let Fold::Group(g) = *fold { int(op, g)? } else { -1 });
        }
        let (mut pointers, mut channels, mut factors) = (Vec::new(), Vec::new(), Vec::new());
        for t in tensors {
            let of = |what| span_of::<f32>(what, t.c);
            let optional = |given, param| if given { param } else { NULL };
            pointers.extend([of("r"), span_of::<f32>("s", t.correct.len() * t.c)]);
            pointers.extend([optional(steps, of("acc")), optional(t.offset, of("offset")), of("r'")]);
            pointers.push(optional(steps, of("acc'")));
            channels.push(int(op, t.c)?);
            for fold in order {
                let missing = |g| GpuError::shape(op, format!("there is no group {g}"));
                factors.push(match *fold {
                    Fold::Group(g) => *t.correct.get(g).ok_or_else(|| missing(g))? as f32,
                    Fold::Steps(m) => (1.0 - momentum).powi(m as i32) as f32,
                });
            }
        }
        let spans = pointers.iter().filter(|p| matches!(p, Param::Span(..))).count();
        let largest = tensors.iter().map(|t| t.c).max().unwrap_or(1);
        let params = vec![
            Param::Pointers(pointers),
            table(gpu, &channels)?,
            table(gpu, &codes)?,
            table(gpu, &factors)?,
            i32(int(op, order.len())?),
            f32(1.0 - momentum),
            f32(momentum),
        ];
        let size = threads_per_row(largest, tensors.len());
        // SAFETY: of each tensor the kernel reads c values of r, of the groups named in the order (all below
        // `correct.len()`), of the accumulator if the order has one, and of the offset unless it is null; it writes c
        // values of r' and, unless it is null, of the cleared accumulator. The tables have an entry for each tensor, the
        // order `folds` and the factors `folds` for each tensor; the grid has a row for each tensor.
        let launch = unsafe { Launch::new(gpu, op, op, size, params)? };
        Ok((launch, spans))
    }
}
