//! Softplus, ln(1 + eˣ), as an op for jempp's engine, defined outside the workspace: a shape rule, a CPU kernel, a
//! gradient, and the test that checks it. It has no CUDA kernel: planning it for a GPU is an error that says so.

use engine::op::{Cpu, Grad, GradRequest, Op, Prepared, check_inputs, cpu_kernel, ensure, real};
use engine::{Node, Result, Spec, Tape, Var};
use std::sync::Arc;

/// y = ln(1 + eˣ), elementwise.
#[derive(Debug)]
pub struct Softplus;

impl Op for Softplus {
    fn name(&self) -> &'static str {
        "softplus"
    }
    fn infer(&self, x: &[Spec]) -> std::result::Result<Vec<Spec>, String> {
        check_inputs(x, 1..=1, &[])?;
        Ok(vec![x[0]])
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        // `real!` compiles the kernel for float32 and float64; the gradient check needs the latter.
        real!(x[0], T => cpu_kernel(cpu, 0, |_, io| {
            let (x, y) = (io.input::<T>(0)?, io.output::<T>(0)?);
            // max(x, 0) + ln(1 + e^−|x|): the exponential cannot overflow.
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x.max(0.0) + (-x.abs()).exp().ln_1p());
            Ok(())
        }))
    }
    fn vjp(&self, tape: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        Ok(vec![want.add(0, || tape.one(SoftplusGrad, &[node.inputs[0], dy]))?])
    }
}

/// dx = dy / (1 + e⁻ˣ), from x and dy. It has no gradient of its own: softplus can be differentiated once.
#[derive(Debug)]
pub struct SoftplusGrad;

impl Op for SoftplusGrad {
    fn name(&self) -> &'static str {
        "softplus_grad"
    }
    fn infer(&self, x: &[Spec]) -> std::result::Result<Vec<Spec>, String> {
        check_inputs(x, 2..=2, &[])?;
        ensure!(x[0] == x[1], "x is {}, dy {}", x[0], x[1]);
        Ok(vec![x[0]])
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        real!(x[0], T => cpu_kernel(cpu, 0, |_, io| {
            let (x, dy, dx) = (io.input::<T>(0)?, io.input::<T>(1)?, io.output::<T>(0)?);
            dx.iter_mut().zip(x.iter().zip(dy)).for_each(|(dx, (x, dy))| *dx = dy / (1.0 + (-x).exp()));
            Ok(())
        }))
    }
}
