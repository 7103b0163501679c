//! Global average pooling.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{
    Grad, GradRequest, Op, Prepared, check_inputs, check_inputs_bf16, cpu_kernel, cuda_launch, ensure, float,
    real,
};
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::global_avg_pool;
use std::sync::Arc;

/// N×H×W×C → N×C: the mean over the pixels of each image and channel; in float32 if x is bf16.
#[derive(Clone, Copy, Debug)]
pub struct GlobalAvgPool;

impl Op for GlobalAvgPool {
    fn name(&self) -> &'static str {
        "global_avg_pool"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 1..=1, &[], |_| true)?;
        ensure!(x[0].rank() == 4, "needs N×H×W×C, got {}", x[0]);
        Ok(vec![x[0].wide().with_shape(&[x[0].first(), x[0].last()])])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let (c, pixels) = (x[0].last(), x[0].row_len() / x[0].last());
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            global_avg_pool::cpu(cpu, pixels, c, io.input::<T>(0)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        let (n, c, pixels) = (x[0].first(), x[0].last(), x[0].row_len() / x[0].last());
        cuda_launch(gpu, x, y, global_avg_pool::cuda::forward(gpu, float(&x[0]), n, pixels, c)?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let x = t.spec(node.inputs[0])?;
        Ok(vec![want.add(0, || t.one(GlobalAvgPoolGrad { x }, &[dy]))?])
    }
}

/// The gradient of [`GlobalAvgPool`]: dx from dy, N×C.
#[derive(Clone, Copy, Debug)]
pub struct GlobalAvgPoolGrad {
    /// Spec of x.
    pub x: Spec,
}

impl Op for GlobalAvgPoolGrad {
    fn name(&self) -> &'static str {
        "global_avg_pool_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 1..=1, &[])?;
        let fits = x[0].shape() == [self.x.first(), self.x.last()] && x[0].dtype == self.x.dtype.wide();
        ensure!(fits, "dy is {}, x {}", x[0], self.x);
        Ok(vec![self.x])
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let (c, pixels) = (self.x.last(), self.x.row_len() / self.x.last());
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            global_avg_pool::grad_cpu(cpu, pixels, c, io.input::<T>(0)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        let (n, c, pixels) = (self.x.first(), self.x.last(), self.x.row_len() / self.x.last());
        cuda_launch(gpu, x, y, global_avg_pool::cuda::grad(gpu, float(&self.x), n, pixels, c)?)
    }
    fn vjp(&self, t: &mut Tape, _: &Node, u: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(u) = u[0] else { return Ok(Vec::new()) };
        Ok(vec![want.add(0, || t.one(GlobalAvgPool, &[u]))?])
    }
}

pub(super) fn cases() -> Cases {
    let fwd = |t: &mut Tape, x: &[Var]| t.record(GlobalAvgPool, x);
    let big: &[usize] = &[192, 8, 8, 128];
    Cases {
        small: vec![
            Case::new("forward", &[(&[3, 5, 2, 7], F::Normal)], fwd).bf16(&[0]),
            Case::new("in packs", &[(&[3, 2, 2, 16], F::Normal)], fwd).bf16(&[0]),
            Case::new("gradient", &[(&[3, 7], F::Normal)], |t, x| {
                let x4 = t.spec(x[0])?.with_shape(&[3, 5, 2, 7]);
                t.record(GlobalAvgPoolGrad { x: x4 }, x)
            }),
        ],
        invalid: vec![Case::new("rank", &[(&[3, 5], F::Normal)], fwd)],
        bench: vec![Case::new("forward", &[(big, F::Normal)], fwd).bf16(&[0])],
    }
}
