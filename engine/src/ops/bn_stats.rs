//! Batch statistics of each group and channel: the first part of batch norm.

use super::{Case, Cases, Fill as F};
use crate::error::{Error, Result};
use crate::op::{Grad, Op, Prepared, Wanted, cpu_kernel, cuda_kernel, ensure, float, mixed, real};
use crate::ops::scale_shift_leaky::ScaleShiftLeakyGrad;
use crate::spec::Spec;
use crate::tape::{NodeRef, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::bn_stats::{self, Grouped, Stats};
use std::sync::Arc;

/// The grouped shape of N×H×W×C; the groups must share out the images.
pub(crate) fn grouped(x: &Spec, groups: &[usize]) -> core::result::Result<Grouped, String> {
    ensure!(x.rank() == 4, "needs N×H×W×C, got {x}");
    ensure!(!groups.contains(&0), "a group is empty: {groups:?}");
    ensure!(
        groups.iter().sum::<usize>() == x.first(),
        "groups {groups:?} do not share out {} images",
        x.first()
    );
    Ok(Grouped { groups: groups.to_vec(), pixels: x.row_len() / x.last(), c: x.last() })
}

/// The same, for kernels: a shape that does not fit is refused when recorded, and again here.
pub(crate) fn fit(op: &dyn Op, x: &Spec, groups: &[usize]) -> Result<Grouped> {
    grouped(x, groups).map_err(|_| Error::Unsupported { op: op.name(), why: "its groups do not fit" })
}

/// mean[G, C] and biased var[G, C] of x, over the images and pixels of each group; in float32 if x is bf16.
#[derive(Clone, Debug)]
pub struct BnStats {
    /// Images of each group, in order.
    pub groups: Vec<usize>,
}

impl Op for BnStats {
    fn name(&self) -> &'static str {
        "bn_stats"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        mixed(x, 1..=1, &[], |_| true)?;
        grouped(&x[0], &self.groups)?;
        let stat = x[0].wide().with_shape(&[self.groups.len(), x[0].last()]);
        Ok(vec![stat, stat])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        4 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let Ok(shape) = grouped(&x[0], &self.groups) else { return cpu_kernel(cpu, 0, |_, _| Ok(())) };
        let stats = Stats::new(shape);
        let ws = stats.workspace() * x[0].dtype.size();
        real!(x[0], T => cpu_kernel(cpu, ws, move |cpu, io| {
            let (mean, var) = (io.output::<T>(0)?, io.output::<T>(1)?);
            stats.run(cpu, io.input::<T>(0)?, mean, var, io.workspace::<T>()?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> Result<Prepared> {
        let stats = bn_stats::cuda::Stats::new(gpu, float(&x[0]), &fit(self, &x[0], &self.groups)?)?;
        cuda_kernel(gpu, stats.workspace(), move |gpu, io| {
            let (mean, var) = (io.gpu_output(0)?, io.gpu_output(1)?);
            Ok(stats.run(gpu, io.gpu_input(0)?, mean, var, io.gpu_workspace()?)?)
        })
    }
    fn vjp(&self, t: &mut Tape, node: &NodeRef, dy: &[Option<Var>], want: &Wanted) -> Result<Vec<Grad>> {
        if !want.needs(0) {
            return Ok(Vec::new());
        }
        let (x, mean) = (node.inputs[0], node.outputs[0]);
        Ok(vec![Grad::Total(through(t, &self.groups, x, mean, want.so_far[0], (dy[0], dy[1]))?)])
    }
}

/// The gradient of x with what comes through its statistics: `so_far` is what it amounts to without them, the last two
/// the gradients of mean and variance.
pub(crate) fn through(
    t: &mut Tape,
    groups: &[usize],
    x: Var,
    mean: Var,
    so_far: Option<Var>,
    (dmean, dvar): (Option<Var>, Option<Var>),
) -> Result<Var> {
    let spec = t.spec(mean)?;
    let mut zeros = || t.one(super::elementwise::Fill { spec, value: 0.0 }, &[]);
    let dmean = dmean.map_or_else(&mut zeros, Ok)?;
    let dvar = dvar.map_or_else(&mut zeros, Ok)?;
    // The normalisation that used these statistics has just given its own gradient of x: one pass can give both, and
    // the node it would have taken is dead.
    if let Some(fused) = so_far.and_then(|v| ScaleShiftLeakyGrad::with_stats(t, v, x, mean, groups)) {
        let (op, mut inputs) = fused;
        inputs.extend([dmean, dvar]);
        return t.one(op, &inputs);
    }
    let op = BnStatsGrad { groups: groups.to_vec() };
    let inputs: Vec<Var> = [x, mean, dmean, dvar].into_iter().chain(so_far).collect();
    t.one(op, &inputs)
}

/// dx = add + dmean/n + 2·dvar·(x − mean)/n. Inputs: x, mean, dmean, dvar, and a tensor like x to add or not.
#[derive(Clone, Debug)]
pub struct BnStatsGrad {
    /// As in the forward pass.
    pub groups: Vec<usize>,
}

impl Op for BnStatsGrad {
    fn name(&self) -> &'static str {
        "bn_stats_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        mixed(x, 4..=5, &[], |i| i == 0 || i == 4)?;
        grouped(&x[0], &self.groups)?;
        ensure!(
            x[1..4].iter().all(|s| s.shape() == [self.groups.len(), x[0].last()]),
            "statistics do not fit"
        );
        ensure!(x.len() < 5 || x[4] == x[0], "the tensor to add is not like x");
        Ok(vec![x[0]])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        4 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let Ok(shape) = grouped(&x[0], &self.groups) else { return cpu_kernel(cpu, 0, |_, _| Ok(())) };
        let add = x.len() > 4;
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            let (x, mean) = (io.input::<T>(0)?, io.input::<T>(1)?);
            let (dmean, dvar) = (io.input::<T>(2)?, io.input::<T>(3)?);
            let add = if add { Some(io.input::<T>(4)?) } else { None };
            bn_stats::grad_cpu(cpu, &shape, x, mean, dmean, dvar, add, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> Result<Prepared> {
        let launch = bn_stats::cuda::grad(gpu, float(&x[0]), &fit(self, &x[0], &self.groups)?)?;
        let add = x.len() > 4;
        cuda_kernel(gpu, 0, move |gpu, io| {
            let add = if add { Some(io.gpu_input(4)?) } else { None };
            let (x, mean) = (io.gpu_input(0)?, io.gpu_input(1)?);
            let (dmean, dvar) = (io.gpu_input(2)?, io.gpu_input(3)?);
            let dx = io.gpu_output(0)?;
            Ok(launch.run(gpu, &[Some(x), Some(mean), Some(dmean), Some(dvar), add, Some(dx)])?)
        })
    }
}

pub(super) fn cases() -> Cases {
    let x: &[usize] = &[5, 3, 4, 7];
    let big: &[usize] = &[192, 32, 32, 32];
    let go = |t: &mut Tape, x: &[Var]| t.record(BnStats { groups: vec![2, 3] }, x);
    let bench = |t: &mut Tape, x: &[Var]| t.record(BnStats { groups: vec![64; 3] }, x);
    Cases {
        small: vec![
            Case::new("two groups", &[(x, F::Normal)], go).low(&[0]),
            Case::new("with another use of x", &[(x, F::Normal)], |t, x| {
                let y = t.one(super::leaky_relu::LeakyRelu { leak: 0.2 }, x)?;
                let mut out = t.record(BnStats { groups: vec![5] }, x)?;
                out.push(y);
                Ok(out)
            })
            .low(&[0]),
        ],
        misfits: vec![
            Case::new("groups", &[(&[4, 3, 3, 2], F::Normal)], go),
            Case::new("rank", &[(&[5, 3], F::Normal)], go),
        ],
        bench: vec![
            Case::new("three groups", &[(big, F::Normal)], bench).low(&[0]),
            Case::new("three groups", &[(&[192, 8, 8, 128], F::Normal)], bench).low(&[0]),
            Case::new("three groups", &[(&[192, 8, 8, 16], F::Normal)], bench).low(&[0]),
            Case::new("three groups", &[(&[192, 32, 32, 160], F::Normal)], bench).low(&[0]),
        ],
    }
}
