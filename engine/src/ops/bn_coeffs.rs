//! The scale of a normalisation from variance and gamma: the second part of batch norm.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{Grad, GradRequest, Op, Prepared, check_inputs, cpu_kernel, cuda_launch, ensure, real};
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::bn_coeffs;
use std::sync::Arc;

/// `scale[G, C]` = `gamma[C]` / √(`var[G, C]` + eps); var may be `[C]` as well.
#[derive(Clone, Copy, Debug)]
pub struct BnCoeffs {
    /// ε, added to the variance.
    pub eps: f64,
}

fn fits(var: &Spec, gamma: &Spec) -> core::result::Result<(), String> {
    ensure!(
        gamma.rank() == 1 && var.rank() >= 1 && var.last() == gamma.len(),
        "variance {var} and gamma {gamma} do not fit each other"
    );
    Ok(())
}

impl Op for BnCoeffs {
    fn name(&self) -> &'static str {
        "bn_coeffs"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 2..=2, &[])?;
        fits(&x[0], &x[1])?;
        Ok(vec![x[0]])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        3 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let eps = self.eps;
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            bn_coeffs::cpu(eps, io.input::<T>(0)?, io.input::<T>(1)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        let (groups, c) = (x[0].rows(), x[0].last());
        cuda_launch(gpu, x, y, bn_coeffs::cuda::forward(gpu, self.eps, groups, c)?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let grads = t.record(BnCoeffsGrad { eps: self.eps }, &[node.inputs[0], node.inputs[1], dy])?;
        Ok(vec![want.add(0, || Ok(grads[0]))?, want.add(1, || Ok(grads[1]))?])
    }
}

/// The gradients of the variance `[G, C]` and of gamma `[C]`, from variance, gamma and the gradient of the scale.
#[derive(Clone, Copy, Debug)]
pub struct BnCoeffsGrad {
    /// ε, added to the variance.
    pub eps: f64,
}

impl Op for BnCoeffsGrad {
    fn name(&self) -> &'static str {
        "bn_coeffs_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 3..=3, &[])?;
        fits(&x[0], &x[1])?;
        ensure!(x[2] == x[0], "dscale differs in shape from the variance");
        Ok(vec![x[0], x[1]])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        8 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let eps = self.eps;
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            let (dvar, dgamma) = (io.output::<T>(0)?, io.output::<T>(1)?);
            bn_coeffs::grad_cpu(eps, io.input::<T>(0)?, io.input::<T>(1)?, io.input::<T>(2)?, dvar, dgamma);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        let (groups, c) = (x[0].rows(), x[0].last());
        cuda_launch(gpu, x, y, bn_coeffs::cuda::grad(gpu, self.eps, groups, c)?)
    }
}

pub(super) fn cases() -> Cases {
    let go = |t: &mut Tape, x: &[Var]| t.record(BnCoeffs { eps: 1e-5 }, x);
    Cases {
        small: vec![
            Case::new("three groups", &[(&[3, 7], F::Positive), (&[7], F::Normal)], go),
            Case::new("no groups", &[(&[7], F::Positive), (&[7], F::Normal)], go),
        ],
        invalid: vec![Case::new("channels", &[(&[3, 7], F::Positive), (&[6], F::Normal)], go)],
        bench: vec![Case::new("three groups", &[(&[3, 128], F::Positive), (&[128], F::Normal)], go)],
    }
}
