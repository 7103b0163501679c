//! Softplus.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{Grad, GradRequest, Op, Prepared, check_inputs, cpu_kernel, cuda_launch, ensure, real};
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::softplus;
use std::sync::Arc;

/// y = ln(1 + eˣ), elementwise: −ln σ(−x), the cross-entropy of the logit x and "no".
#[derive(Clone, Copy, Debug)]
pub struct Softplus;

impl Op for Softplus {
    fn name(&self) -> &'static str {
        "softplus"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 1..=1, &[])?;
        Ok(vec![x[0]])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        4 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        real!(x[0], T => cpu_kernel(cpu, 0, |_, io| {
            softplus::cpu(io.input::<T>(0)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, softplus::cuda::forward(gpu, x[0].len())?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        Ok(vec![want.add(0, || t.one(SoftplusGrad, &[node.inputs[0], dy]))?])
    }
}

/// dx = dy·σ(x), from x and dy: the gradient of [`Softplus`]. It has none of its own.
#[derive(Clone, Copy, Debug)]
pub struct SoftplusGrad;

impl Op for SoftplusGrad {
    fn name(&self) -> &'static str {
        "softplus_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 2..=2, &[])?;
        ensure!(x[1] == x[0], "x and dy differ");
        Ok(vec![x[0]])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        4 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        real!(x[0], T => cpu_kernel(cpu, 0, |_, io| {
            softplus::grad_cpu(io.input::<T>(0)?, io.input::<T>(1)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, softplus::cuda::grad(gpu, x[0].len())?)
    }
}

pub(super) fn cases() -> Cases {
    let go = |t: &mut Tape, x: &[Var]| t.record(Softplus, x);
    let steep = |t: &mut Tape, x: &[Var]| {
        let z = t.one(super::elementwise::Axpby { a: 30.0, b: 0.0 }, x)?;
        t.record(Softplus, &[z])
    };
    Cases {
        small: vec![
            Case::new("forward", &[(&[5, 7], F::Normal)], go),
            Case::new("steep", &[(&[13], F::Normal)], steep),
        ],
        invalid: vec![
            Case::new("labels", &[(&[5], F::Below(3))], go),
            Case::new("gradient", &[(&[5], F::Normal), (&[6], F::Normal)], |t, x| t.record(SoftplusGrad, x)),
        ],
        bench: vec![Case::new("forward", &[(&[128], F::Normal)], go)],
    }
}
