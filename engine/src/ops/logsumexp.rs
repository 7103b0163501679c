//! logsumexp of the logits (minus the energy of a JEM), and softmax, which is its gradient.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{Grad, GradRequest, Op, Prepared, check_inputs, cpu_kernel, cuda_launch, ensure, real};
use crate::ops::elementwise::{Axpby, Fill};
use crate::ops::reduce::MulRows;
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::logsumexp;
use std::sync::Arc;

fn logits(x: &[Spec]) -> core::result::Result<(), String> {
    ensure!(x.iter().all(|s| s.rank() == 2 && s == &x[0]), "needs N×classes matrices");
    Ok(())
}

/// `f[n]` = ln Σ_c exp(`x[n, c]`).
#[derive(Clone, Copy, Debug)]
pub struct LogSumExp;

impl Op for LogSumExp {
    fn name(&self) -> &'static str {
        "logsumexp"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 1..=1, &[])?;
        logits(x)?;
        Ok(vec![x[0].with_shape(&[x[0].first()])])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        3 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let c = x[0].last();
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            logsumexp::cpu(c, io.input::<T>(0)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, logsumexp::cuda::logsumexp(gpu, x[0].first(), x[0].last())?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let dx = want.add(0, || {
            let p = t.one(Softmax, &[node.inputs[0]])?;
            match Fill::value_of(t, dy) {
                Some(a) => t.one(Axpby { a, b: 0.0 }, &[p]),
                None => t.one(MulRows, &[p, dy]),
            }
        })?;
        Ok(vec![dx])
    }
}

/// p[n, c] = exp(x[n, c]) / Σ exp(x[n, ·]).
#[derive(Clone, Copy, Debug)]
pub struct Softmax;

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 1..=1, &[])?;
        logits(x)?;
        Ok(x.to_vec())
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        4 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let c = x[0].last();
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            logsumexp::softmax(c, io.input::<T>(0)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, logsumexp::cuda::softmax(gpu, x[0].first(), x[0].last())?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, u: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(u) = u[0] else { return Ok(Vec::new()) };
        Ok(vec![want.add(0, || t.one(SoftmaxGrad, &[node.outputs[0], u]))?])
    }
}

/// The gradient of softmax: p·(u − Σ u·p) from p and the gradient u of p.
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxGrad;

impl Op for SoftmaxGrad {
    fn name(&self) -> &'static str {
        "softmax_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 2..=2, &[])?;
        logits(x)?;
        Ok(vec![x[0]])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        4 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let c = x[0].last();
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            logsumexp::softmax_grad(c, io.input::<T>(0)?, io.input::<T>(1)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, logsumexp::cuda::softmax_grad(gpu, x[0].first(), x[0].last())?)
    }
}

pub(super) fn cases() -> Cases {
    let m: &[usize] = &[5, 7];
    let big: &[usize] = &[192, 10];
    let lse = |t: &mut Tape, x: &[Var]| t.record(LogSumExp, x);
    Cases {
        small: vec![
            Case::new("logsumexp", &[(m, F::Normal)], lse),
            Case::new("one class", &[(&[3, 1], F::Normal)], lse),
            Case::new("softmax", &[(m, F::Normal)], |t, x| t.record(Softmax, x)),
            Case::new("softmax_grad", &[(m, F::Fixed), (m, F::Fixed)], |t, x| t.record(SoftmaxGrad, x)),
        ],
        invalid: vec![Case::new("rank", &[(&[5], F::Normal)], lse)],
        bench: vec![
            Case::new("logsumexp", &[(big, F::Normal)], lse),
            Case::new("softmax", &[(big, F::Normal)], |t, x| t.record(Softmax, x)),
        ],
    }
}
