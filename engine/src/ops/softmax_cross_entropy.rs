//! Cross-entropy of softmax: −ln p(label) of each row.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{Grad, GradRequest, Op, Prepared, check_inputs, cpu_kernel, cuda_launch, ensure, real};
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::softmax_cross_entropy;
use std::sync::Arc;

/// `loss[n]` = logsumexp(`x[n, ·]`) − x[n, `label[n]`].
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxCrossEntropy;

fn fits(x: &[Spec]) -> core::result::Result<(), String> {
    ensure!(x[0].rank() == 2, "needs N×classes logits, got {}", x[0]);
    ensure!(x[1].shape() == [x[0].first()], "needs {} labels, got {}", x[0].first(), x[1]);
    Ok(())
}

impl Op for SoftmaxCrossEntropy {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 2..=2, &[1])?;
        fits(x)?;
        Ok(vec![x[0].with_shape(&[x[0].first()])])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        3 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let c = x[0].last();
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            softmax_cross_entropy::cpu(c, io.input::<T>(0)?, io.input::<i32>(1)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, softmax_cross_entropy::cuda::loss(gpu, x[0].first(), x[0].last())?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let (x, labels) = (node.inputs[0], node.inputs[1]);
        Ok(vec![want.add(0, || t.one(SoftmaxCrossEntropyGrad, &[x, labels, dy]))?])
    }
}

/// The gradient of the logits, from logits, labels and the gradient of the losses.
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxCrossEntropyGrad;

impl Op for SoftmaxCrossEntropyGrad {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 3..=3, &[1])?;
        fits(x)?;
        ensure!(x[2].shape() == [x[0].first()], "dloss is {}", x[2]);
        Ok(vec![x[0]])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        5 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let c = x[0].last();
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            let (x, l, g) = (io.input::<T>(0)?, io.input::<i32>(1)?, io.input::<T>(2)?);
            softmax_cross_entropy::grad_cpu(c, x, l, g, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, softmax_cross_entropy::cuda::grad(gpu, x[0].first(), x[0].last())?)
    }
}

pub(super) fn cases() -> Cases {
    let (m, big): (&[usize], &[usize]) = (&[5, 7], &[64, 10]);
    let go = |t: &mut Tape, x: &[Var]| t.record(SoftmaxCrossEntropy, x);
    Cases {
        small: vec![Case::new("loss", &[(m, F::Normal), (&[5], F::Below(7))], go)],
        invalid: vec![
            Case::new("labels", &[(m, F::Normal), (&[6], F::Below(7))], go),
            Case::new("rank", &[(&[5], F::Normal), (&[5], F::Below(7))], go),
        ],
        bench: vec![Case::new("loss", &[(big, F::Normal), (&[64], F::Below(10))], go)],
    }
}
