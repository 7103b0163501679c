//! Batch statistics of each group and channel: the first part of batch norm.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{
    GpuWork, Grad, GradRequest, Op, Prepared, check_inputs_bf16, cpu_kernel, cuda_kernel, ensure, float, real,
};
use crate::ops::bn_coeffs::BnCoeffs;
use crate::ops::elementwise::{Fill, Mul};
use crate::ops::grouped::{grouped, grouped_or_unsupported};
use crate::ops::leaky_relu::LeakyRelu;
use crate::ops::scale_shift_leaky::{ScaleShiftLeaky, ScaleShiftLeakyGrad};
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::bn_stats::{self, Stats};
use std::sync::Arc;

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
        check_inputs_bf16(x, 1..=1, &[], |_| true)?;
        grouped(&x[0], &self.groups)?;
        let stat = x[0].wide().with_shape(&[self.groups.len(), x[0].last()]);
        Ok(vec![stat, stat])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        4 * x[0].len() as u64
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        GpuWork::own(2, self.bytes(x, y))
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
        let stats = bn_stats::cuda::Stats::new(
            gpu,
            float(&x[0]),
            &grouped_or_unsupported(self, &x[0], &self.groups)?,
        )?;
        cuda_kernel(gpu, stats.workspace(), move |gpu, io| {
            let (mean, var) = (io.gpu_output(0)?, io.gpu_output(1)?);
            Ok(stats.run(gpu, io.gpu_input(0)?, mean, var, io.gpu_workspace()?)?)
        })
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        if !want.needs(0) {
            return Ok(Vec::new());
        }
        let (x, mean) = (node.inputs[0], node.outputs[0]);
        Ok(vec![Grad::Accumulated(through(t, &self.groups, x, mean, want.accumulated[0], (dy[0], dy[1]))?)])
    }
}

/// The gradient of x including the part that comes through its statistics. `accumulated` is the sum of the other parts; the last
/// argument holds the gradients of mean and variance.
pub(crate) fn through(
    t: &mut Tape,
    groups: &[usize],
    x: Var,
    mean: Var,
    accumulated: Option<Var>,
    (dmean, dvar): (Option<Var>, Option<Var>),
) -> Result<Var> {
    let spec = t.spec(mean)?;
    let mut zeros = || t.one(Fill { spec, value: 0.0 }, &[]);
    let dmean = dmean.map_or_else(&mut zeros, Ok)?;
    let dvar = dvar.map_or_else(&mut zeros, Ok)?;
    // If the normalisation that used these statistics has just added its own gradient of x, one op computes both; the
    // node that computed the other alone is then dead.
    if let Some(fused) = accumulated.and_then(|v| ScaleShiftLeakyGrad::with_stats(t, v, x, mean, groups)) {
        let (op, mut inputs) = fused;
        inputs.extend([dmean, dvar]);
        return t.one(op, &inputs);
    }
    let op = BnStatsGrad { groups: groups.to_vec() };
    let inputs: Vec<Var> = [x, mean, dmean, dvar].into_iter().chain(accumulated).collect();
    t.one(op, &inputs)
}

/// dx = add + dmean/n + 2·dvar·(x − mean)/n. Inputs: x, mean, dmean, dvar, and optionally a tensor of the shape of x to add.
#[derive(Clone, Debug)]
pub struct BnStatsGrad {
    /// Images of each group, as in the forward pass.
    pub groups: Vec<usize>,
}

impl Op for BnStatsGrad {
    fn name(&self) -> &'static str {
        "bn_stats_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 4..=5, &[], |i| i == 0 || i == 4)?;
        grouped(&x[0], &self.groups)?;
        ensure!(
            x[1..4].iter().all(|s| s.shape() == [self.groups.len(), x[0].last()]),
            "statistics do not fit"
        );
        ensure!(x.len() < 5 || x[4] == x[0], "the tensor to add differs in shape or type from x");
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
        let launch =
            bn_stats::cuda::grad(gpu, float(&x[0]), &grouped_or_unsupported(self, &x[0], &self.groups)?)?;
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

/// A batch norm with leaky ReLU, made of its parts; outputs y, mean and biased variance.
fn batch_norm(t: &mut Tape, groups: &[usize], x: Var, gamma: Var, beta: Var) -> Result<Vec<Var>> {
    let stats = t.record(BnStats { groups: groups.to_vec() }, &[x])?;
    let scale = t.one(BnCoeffs { eps: 1e-5 }, &[stats[1], gamma])?;
    let op = ScaleShiftLeaky { groups: groups.to_vec(), leak: 0.2 };
    let y = t.one(op, &[x, stats[0], scale, beta])?;
    Ok(vec![y, stats[0], stats[1]])
}

/// Batch norm as a network uses it: statistics, coefficients, normalisation.
fn batch_norm_cases() -> Vec<Case> {
    let (x, c): (&[usize], &[usize]) = (&[5, 3, 2, 7], &[7]);
    let whole =
        |groups: &'static [usize]| move |t: &mut Tape, v: &[Var]| batch_norm(t, groups, v[0], v[1], v[2]);
    vec![
        Case::new("batch norm", &[(x, F::Normal), (c, F::Positive), (c, F::Normal)], whole(&[2, 3]))
            .bf16(&[0]),
        Case::new("batch norm, residual use", &[(x, F::Normal), (c, F::Positive), (c, F::Normal)], |t, v| {
            let y = batch_norm(t, &[5], v[0], v[1], v[2])?;
            t.record(Mul, &[y[0], v[0]])
        })
        .bf16(&[0]),
        Case::new(
            "batch norm in packs",
            &[(&[5, 3, 2, 16], F::Normal), (&[16], F::Positive), (&[16], F::Normal)],
            whole(&[2, 3]),
        )
        .bf16(&[0]),
    ]
}

pub(super) fn cases() -> Cases {
    let x: &[usize] = &[5, 3, 4, 7];
    let big: &[usize] = &[192, 32, 32, 32];
    let go = |t: &mut Tape, x: &[Var]| t.record(BnStats { groups: vec![2, 3] }, x);
    let bench = |t: &mut Tape, x: &[Var]| t.record(BnStats { groups: vec![64; 3] }, x);
    Cases {
        small: [
            vec![
                Case::new("two groups", &[(x, F::Normal)], go).bf16(&[0]),
                Case::new("with another use of x", &[(x, F::Normal)], |t, x| {
                    let y = t.one(LeakyRelu { leak: 0.2 }, x)?;
                    let mut out = t.record(BnStats { groups: vec![5] }, x)?;
                    out.push(y);
                    Ok(out)
                })
                .bf16(&[0]),
            ],
            batch_norm_cases(),
        ]
        .concat(),
        invalid: vec![
            Case::new("groups", &[(&[4, 3, 3, 2], F::Normal)], go),
            Case::new("rank", &[(&[5, 3], F::Normal)], go),
        ],
        bench: vec![
            Case::new("three groups", &[(big, F::Normal)], bench).bf16(&[0]),
            Case::new("three groups", &[(&[192, 8, 8, 128], F::Normal)], bench).bf16(&[0]),
            Case::new("three groups", &[(&[192, 8, 8, 16], F::Normal)], bench).bf16(&[0]),
            Case::new("three groups", &[(&[192, 32, 32, 160], F::Normal)], bench).bf16(&[0]),
        ],
    }
}
