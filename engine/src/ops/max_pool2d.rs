//! Max pooling.

use super::avg_pool2d::Pool;
use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{Grad, GradRequest, Op, Prepared, check_inputs, cpu_kernel, cuda_launch, ensure, real};
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::max_pool2d;
use std::sync::Arc;

/// N×H×W×C → the largest value of each window, per channel. Padding never wins.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool2d {
    /// The windows.
    pub pool: Pool,
}

impl Op for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 1..=1, &[])?;
        Ok(vec![self.pool.infer(&x[0])?])
    }
    fn flops(&self, _: &[Spec], y: &[Spec]) -> u64 {
        (y[0].len() * self.pool.size * self.pool.size) as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let v = self.pool.over(&x[0]);
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            max_pool2d::cpu(cpu, &v, io.input::<T>(0)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, max_pool2d::cuda::forward(gpu, &self.pool.over(&x[0]))?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        Ok(vec![want.add(0, || t.one(MaxPool2dGrad { pool: self.pool }, &[node.inputs[0], dy]))?])
    }
}

/// dx from x and dy. Of equal largest values in a window the first gets the gradient, as in PyTorch.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool2dGrad {
    /// The windows.
    pub pool: Pool,
}

impl Op for MaxPool2dGrad {
    fn name(&self) -> &'static str {
        "max_pool2d_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 2..=2, &[])?;
        let y = self.pool.infer(&x[0])?;
        ensure!(x[1] == y, "dy is {}, not {y}", x[1]);
        Ok(vec![x[0]])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        (x[1].len() * self.pool.size * self.pool.size) as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let v = self.pool.over(&x[0]);
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            max_pool2d::grad_cpu(cpu, &v, io.input::<T>(0)?, io.input::<T>(1)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, max_pool2d::cuda::grad(gpu, &self.pool.over(&x[0]))?)
    }
}

pub(super) fn cases() -> Cases {
    let of = |size, stride, pad| MaxPool2d { pool: Pool { size, stride, pad } };
    let case = |name: &str, shape: &[usize], op: MaxPool2d| {
        Case::new(name, &[(shape, F::Normal)], move |t, x| t.record(op, x))
    };
    let grad =
        |t: &mut Tape, x: &[Var]| t.record(MaxPool2dGrad { pool: Pool { size: 3, stride: 2, pad: 0 } }, x);
    Cases {
        small: vec![
            case("margin", &[2, 5, 6, 3], of(3, 1, 1)),
            case("steps", &[3, 7, 9, 19], of(3, 2, 0)),
            case("gaps", &[1, 7, 5, 2], of(2, 3, 1)),
        ],
        invalid: vec![
            case("rank", &[5, 6, 3], of(3, 1, 1)),
            case("too large", &[1, 2, 6, 3], of(3, 1, 0)),
            Case::new("gradient", &[(&[1, 7, 7, 3], F::Fixed), (&[1, 4, 3, 3], F::Normal)], grad),
        ],
        bench: vec![
            case("forward 3×3/2", &[8, 147, 147, 64], of(3, 2, 0)),
            Case::new(
                "gradient 3×3/2",
                &[(&[8, 71, 71, 192], F::Fixed), (&[8, 35, 35, 192], F::Normal)],
                grad,
            ),
        ],
    }
}
