//! Statistics over all channels of a group. Between `bn_stats` and `bn_coeffs`, this op turns batch norm into layer norm.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{Grad, GradRequest, Op, Prepared, check_inputs, cpu_kernel, cuda_launch, ensure, real};
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::layer_stats;
use std::sync::Arc;

fn alike(x: &[Spec]) -> core::result::Result<(), String> {
    ensure!(x[0].rank() == 2, "needs [groups, channels], got {}", x[0]);
    ensure!(x.iter().all(|s| *s == x[0]), "statistics differ in shape: {} and {}", x[0], x[1]);
    Ok(())
}

/// Mean and biased variance over all channels of each group, repeated for each channel. Inputs: mean and biased variance of
/// each channel, `[G, C]`; all channels have the same number of values.
#[derive(Clone, Copy, Debug)]
pub struct LayerStats;

impl Op for LayerStats {
    fn name(&self) -> &'static str {
        "layer_stats"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 2..=2, &[])?;
        alike(x)?;
        Ok(vec![x[0], x[0]])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        5 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let c = x[0].last();
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            let (mean, var) = (io.output::<T>(0)?, io.output::<T>(1)?);
            layer_stats::cpu(c, io.input::<T>(0)?, io.input::<T>(1)?, mean, var);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, layer_stats::cuda::forward(gpu, x[0].first(), x[0].last())?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        if !(want.needs(0) || want.needs(1)) {
            return Ok(Vec::new());
        }
        let spec = t.spec(node.inputs[0])?;
        let mut zeros = || t.one(super::elementwise::Fill { spec, value: 0.0 }, &[]);
        let dmean = dy[0].map_or_else(&mut zeros, Ok)?;
        let dvar = dy[1].map_or_else(&mut zeros, Ok)?;
        let grads = t.record(LayerStatsGrad, &[node.inputs[0], dmean, dvar])?;
        Ok(vec![want.add(0, || Ok(grads[0]))?, want.add(1, || Ok(grads[1]))?])
    }
}

/// The gradients of mean and variance. Inputs: mean and the gradients of the two outputs of [`LayerStats`].
#[derive(Clone, Copy, Debug)]
pub struct LayerStatsGrad;

impl Op for LayerStatsGrad {
    fn name(&self) -> &'static str {
        "layer_stats_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 3..=3, &[])?;
        alike(x)?;
        Ok(vec![x[0], x[0]])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        6 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let c = x[0].last();
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            let (dmean, dvar) = (io.output::<T>(0)?, io.output::<T>(1)?);
            let (d_mean, d_var) = (io.input::<T>(1)?, io.input::<T>(2)?);
            layer_stats::grad_cpu(c, io.input::<T>(0)?, d_mean, d_var, dmean, dvar);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, layer_stats::cuda::grad(gpu, x[0].first(), x[0].last())?)
    }
}

/// A layer norm made of its parts; each image is a group.
fn layer_norm(t: &mut Tape, x: Var, gamma: Var, beta: Var) -> Result<Var> {
    let groups = vec![1; t.spec(x)?.first()];
    let s = t.record(super::bn_stats::BnStats { groups: groups.clone() }, &[x])?;
    let s = t.record(LayerStats, &s)?;
    let scale = t.one(super::bn_coeffs::BnCoeffs { eps: 1e-5 }, &[s[1], gamma])?;
    t.one(super::scale_shift_leaky::ScaleShiftLeaky { groups, leak: 0.2 }, &[x, s[0], scale, beta])
}

pub(super) fn cases() -> Cases {
    let go = |t: &mut Tape, x: &[Var]| t.record(LayerStats, x);
    let (m, v) = (F::Normal, F::Positive);
    let (s, c): (&[usize], &[usize]) = (&[3, 7], &[7]);
    Cases {
        small: vec![
            Case::new("three groups", &[(s, m.clone()), (s, v.clone())], go),
            Case::new("layer norm", &[(&[3, 4, 2, 7], m.clone()), (c, v.clone()), (c, m.clone())], |t, x| {
                Ok(vec![layer_norm(t, x[0], x[1], x[2])?])
            }),
        ],
        invalid: vec![
            Case::new("rank", &[(c, m.clone()), (c, v.clone())], go),
            Case::new("shape", &[(s, m.clone()), (&[3, 6], v.clone())], go),
        ],
        bench: vec![Case::new("a group per image", &[(&[192, 640], m), (&[192, 640], v)], go)],
    }
}
