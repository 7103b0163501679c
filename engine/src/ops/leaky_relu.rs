//! Leaky ReLU.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{
    Grad, GradRequest, Op, Prepared, check_inputs_bf16, cpu_kernel, cuda_launch, ensure, float, real,
};
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::leaky_relu;
use std::sync::Arc;

/// y = x for x ≥ 0, leak·x below.
#[derive(Clone, Copy, Debug)]
pub struct LeakyRelu {
    /// Slope below zero.
    pub leak: f64,
}

impl Op for LeakyRelu {
    fn name(&self) -> &'static str {
        "leaky_relu"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 1..=1, &[], |_| true)?;
        Ok(x.to_vec())
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let leak = self.leak;
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            leaky_relu::cpu(cpu, leak, io.input::<T>(0)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, leaky_relu::cuda::forward(gpu, float(&y[0]), self.leak, y[0].len())?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        Ok(vec![want.add(0, || t.one(LeakyReluGrad { leak: self.leak }, &[node.inputs[0], dy]))?])
    }
}

/// dx from x and dy; the slope at 0 is `leak`, as in PyTorch. Linear in dy, so its gradient is this op again.
#[derive(Clone, Copy, Debug)]
pub struct LeakyReluGrad {
    /// Slope below zero.
    pub leak: f64,
}

impl Op for LeakyReluGrad {
    fn name(&self) -> &'static str {
        "leaky_relu_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 2..=2, &[], |_| true)?;
        ensure!(x[0] == x[1], "x and dy differ");
        Ok(vec![x[0]])
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let leak = self.leak;
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            leaky_relu::grad_cpu(cpu, leak, io.input::<T>(0)?, io.input::<T>(1)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, leaky_relu::cuda::grad(gpu, float(&y[0]), self.leak, y[0].len())?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(u) = dy[0] else { return Ok(Vec::new()) };
        // The second derivative of leaky ReLU is zero almost everywhere.
        Ok(vec![Grad::None, want.add(1, || t.one(*self, &[node.inputs[0], u]))?])
    }
}

pub(super) fn cases() -> Cases {
    let s: &[usize] = &[3, 5, 7, 3];
    let big: &[usize] = &[64, 32, 32, 32];
    let fwd = |t: &mut Tape, x: &[Var]| t.record(LeakyRelu { leak: 0.2 }, x);
    let bwd = |t: &mut Tape, x: &[Var]| t.record(LeakyReluGrad { leak: 0.2 }, x);
    Cases {
        small: vec![
            Case::new("forward", &[(s, F::Normal)], fwd).bf16(&[0]),
            Case::new("gradient", &[(s, F::Fixed), (s, F::Normal)], bwd).bf16(&[0, 1]),
        ],
        invalid: vec![
            Case::new("integers", &[(s, F::Below(5))], fwd),
            Case::new("gradient", &[(s, F::Fixed), (&[3, 5], F::Normal)], bwd),
        ],
        bench: vec![
            Case::new("forward", &[(big, F::Normal)], fwd).bf16(&[0]),
            Case::new("forward", &[(&[64, 32, 32, 160], F::Normal)], fwd).bf16(&[0]),
            Case::new("gradient", &[(big, F::Fixed), (big, F::Normal)], bwd).bf16(&[0, 1]),
        ],
    }
}
