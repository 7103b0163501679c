//! Running statistics, updated with the statistics of one pass after another.

use crate::case::{Case, Cases, FillWith as F};
use crate::op::{Op, Prepared, check_inputs, cpu_kernel, cuda_kernel, ensure, real};
use crate::spec::Spec;
use crate::tape::{Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
pub use kernels::ops::bn_running_update::Fold;
use std::sync::Arc;

/// New running statistics from the old ones `r[C]`, the statistics `s[G, C]` of groups, and an accumulator `[C]` if the
/// order has [`Fold::Steps`]. Not differentiable.
#[derive(Clone, Debug)]
pub struct BnRunningUpdate {
    /// Weight of the new value, as in PyTorch.
    pub momentum: f64,
    /// The order in which passes update the statistics.
    pub order: Vec<Fold>,
    /// Factor of each group's statistics: n/(n−1) for variances, else 1.
    pub correct: Vec<f64>,
}

impl Op for BnRunningUpdate {
    fn name(&self) -> &'static str {
        "bn_running_update"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        let steps = self.order.iter().filter(|f| matches!(f, Fold::Steps(_))).count();
        ensure!(steps <= 1, "there are {steps} accumulators; one is allowed");
        check_inputs(x, 2 + steps..=2 + steps, &[])?;
        let (r, s) = (&x[0], &x[1]);
        ensure!(
            r.rank() == 1 && s.rank() == 2 && s.last() == r.len(),
            "running statistics {r} and group statistics {s} do not fit each other"
        );
        ensure!(self.correct.len() == s.first(), "{} corrections for {s}", self.correct.len());
        let known = |f: &Fold| !matches!(f, Fold::Group(g) if *g >= s.first());
        ensure!(self.order.iter().all(known), "the order {:?} names groups that {s} lacks", self.order);
        ensure!(x.len() < 3 || x[2] == *r, "accumulator and running statistics differ in shape");
        Ok(vec![*r])
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        &[(0, 0)]
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let (op, acc) = (self.clone(), x.len() > 2);
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            let (r, s) = (io.input_or_place::<T>(0, 0)?, io.input::<T>(1)?);
            let acc = if acc { Some(io.input::<T>(2)?) } else { None };
            let out = io.output::<T>(0)?;
            kernels::ops::bn_running_update::cpu(op.momentum, &op.order, &op.correct, r, s, acc, out);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> crate::error::Result<Prepared> {
        let c = x[0].len();
        let launch =
            kernels::ops::bn_running_update::cuda::update(gpu, self.momentum, &self.order, &self.correct, c)?;
        let acc = x.len() > 2;
        cuda_kernel(gpu, 0, move |gpu, io| {
            let acc = if acc { Some(io.gpu_input(2)?) } else { None };
            let (r, s, out) = (io.gpu_input(0)?, io.gpu_input(1)?, io.gpu_output(0)?);
            Ok(launch.run(gpu, &[Some(r), Some(s), acc, Some(out)])?)
        })
    }
}

pub(super) fn cases() -> Cases {
    let order = vec![Fold::Group(0), Fold::Steps(3), Fold::Group(1)];
    let op = BnRunningUpdate { momentum: 0.3, order, correct: vec![1.5, 1.0] };
    let go = move |t: &mut Tape, x: &[Var]| t.record(op.clone(), x);
    let inputs: [(&[usize], F); 3] = [(&[7], F::Fixed), (&[2, 7], F::Fixed), (&[7], F::Fixed)];
    Cases {
        small: vec![Case::new("fold", &inputs, go.clone())],
        invalid: vec![
            Case::new("groups", &[(&[7], F::Fixed), (&[3, 7], F::Fixed), (&[7], F::Fixed)], go.clone()),
            Case::new("no accumulator", &inputs[..2], go.clone()),
        ],
        bench: vec![Case::new("fold", &[(&[640], F::Fixed), (&[2, 640], F::Fixed), (&[640], F::Fixed)], go)],
    }
}
