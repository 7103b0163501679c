//! The linear layer y = x·wᵀ + b and its gradients. All are matrix products, and their gradients are again among them.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{
    GpuWork, Grad, GradRequest, Op, Prepared, check_inputs, cpu_kernel, cuda_kernel, ensure, real,
};
use crate::ops::reduce::SumRows;
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::{Float, Gpu};
use kernels::ops::conv2d::{Add, Conv, ConvShape, ConvWeightGrad, cuda};
use std::sync::Arc;

fn matrix(what: &str, s: &Spec) -> core::result::Result<(usize, usize), String> {
    match *s.shape() {
        [a, b] => Ok((a, b)),
        _ => Err(format!("{what} must be a matrix, got {s}")),
    }
}

fn gradient(gpu: &Arc<Gpu>, conv: cuda::Conv) -> Result<Prepared> {
    cuda_kernel(gpu, conv.workspace(), move |gpu, io| {
        let from = (io.gpu_input(0)?, io.gpu_input(1)?);
        Ok(conv.run(gpu, from, None, None, io.gpu_output(0)?, io.gpu_workspace()?)?)
    })
}

/// `y[n, k]` = Σ_c `x[n, c]`·`w[k, c]` + `b[k]`. Inputs: x, w, and optionally b.
#[derive(Clone, Copy, Debug)]
pub struct Linear;

/// dx[n, c] = Σ_k dy[n, k]·w[k, c]. Inputs: dy, w.
#[derive(Clone, Copy, Debug)]
pub struct LinearInputGrad;

/// dw[k, c] = Σ_n dy[n, k]·x[n, c]. Inputs: x, dy.
#[derive(Clone, Copy, Debug)]
pub struct LinearWeightGrad;

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 2..=3, &[])?;
        let ((n, c), (k, wc)) = (matrix("x", &x[0])?, matrix("w", &x[1])?);
        ensure!(c == wc, "x has {c} features, w takes {wc}");
        ensure!(x.len() < 3 || x[2].shape() == [k], "the bias is {}, not {k} values", x[2]);
        Ok(vec![x[0].with_shape(&[n, k])])
    }
    fn flops(&self, x: &[Spec], y: &[Spec]) -> u64 {
        2 * (x[0].last() * y[0].len()) as u64
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        let passes = u64::from(x.len() > 2);
        GpuWork { launches: passes, bytes: 2 * passes * y[0].bytes() as u64, ..GpuWork::library() }
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], y: &[Spec]) -> Prepared {
        let conv = Conv::forward(cpu.products, ConvShape::linear(x[0].first(), x[0].last(), y[0].last()));
        let (ws, bias) = (conv.workspace(cpu) * x[0].dtype.size(), x.len() > 2);
        real!(x[0], T => cpu_kernel(cpu, ws, move |cpu, io| {
            let b = if bias { Some(io.input::<T>(2)?) } else { None };
            let (x, w) = (io.input::<T>(0)?, io.input::<T>(1)?);
            conv.run(cpu, x.into(), w, b, Add::None, io.output::<T>(0)?, None, io.workspace::<T>()?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        let shape = ConvShape::linear(x[0].first(), x[0].last(), y[0].last());
        let bias = x.len() > 2;
        let conv = cuda::Conv::new(gpu, cuda::ConvPass::Forward, Float::F32, shape, false)?;
        cuda_kernel(gpu, conv.workspace(), move |gpu, io| {
            let b = if bias { Some(io.gpu_input(2)?) } else { None };
            let from = (io.gpu_input(0)?, io.gpu_input(1)?);
            Ok(conv.run(gpu, from, b, None, io.gpu_output(0)?, io.gpu_workspace()?)?)
        })
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let (x, w) = (node.inputs[0], node.inputs[1]);
        Ok(vec![
            want.add(0, || t.one(LinearInputGrad, &[dy, w]))?,
            want.add(1, || t.one(LinearWeightGrad, &[x, dy]))?,
            want.add(2, || t.one(SumRows, &[dy]))?,
        ])
    }
}

impl Op for LinearInputGrad {
    fn name(&self) -> &'static str {
        "linear_input_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 2..=2, &[])?;
        let ((n, k), (wk, c)) = (matrix("dy", &x[0])?, matrix("w", &x[1])?);
        ensure!(k == wk, "dy has {k} features, w gives {wk}");
        Ok(vec![x[0].with_shape(&[n, c])])
    }
    fn flops(&self, x: &[Spec], y: &[Spec]) -> u64 {
        2 * (x[0].last() * y[0].len()) as u64
    }
    fn gpu_work(&self, _: &[Spec], _: &[Spec]) -> GpuWork {
        GpuWork::library()
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], y: &[Spec]) -> Prepared {
        let conv = Conv::input_grad(cpu.products, ConvShape::linear(x[0].first(), y[0].last(), x[0].last()));
        let ws = conv.workspace(cpu) * x[0].dtype.size();
        real!(x[0], T => cpu_kernel(cpu, ws, move |cpu, io| {
            let (dy, w) = (io.input::<T>(0)?, io.input::<T>(1)?);
            conv.run(cpu, dy.into(), w, None, Add::None, io.output::<T>(0)?, None, io.workspace::<T>()?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        let shape = ConvShape::linear(x[0].first(), y[0].last(), x[0].last());
        gradient(gpu, cuda::Conv::new(gpu, cuda::ConvPass::InputGrad, Float::F32, shape, false)?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, u: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(u) = u[0] else { return Ok(Vec::new()) };
        let (dy, w) = (node.inputs[0], node.inputs[1]);
        Ok(vec![want.add(0, || t.one(Linear, &[u, w]))?, want.add(1, || t.one(LinearWeightGrad, &[u, dy]))?])
    }
}

impl Op for LinearWeightGrad {
    fn name(&self) -> &'static str {
        "linear_weight_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 2..=2, &[])?;
        let ((n, c), (m, k)) = (matrix("x", &x[0])?, matrix("dy", &x[1])?);
        ensure!(n == m, "x has {n} rows, dy {m}");
        Ok(vec![x[0].with_shape(&[k, c])])
    }
    fn flops(&self, x: &[Spec], y: &[Spec]) -> u64 {
        2 * (x[0].first() * y[0].len()) as u64
    }
    fn gpu_work(&self, _: &[Spec], _: &[Spec]) -> GpuWork {
        GpuWork::library()
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let grad =
            ConvWeightGrad::new(cpu.products, ConvShape::linear(x[0].first(), x[0].last(), x[1].last()));
        let ws = grad.workspace(cpu) * x[0].dtype.size();
        real!(x[0], T => cpu_kernel(cpu, ws, move |cpu, io| {
            grad.run(cpu, io.input::<T>(0)?.into(), io.input::<T>(1)?, io.output::<T>(0)?, io.workspace::<T>()?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> Result<Prepared> {
        let shape = ConvShape::linear(x[0].first(), x[0].last(), x[1].last());
        gradient(gpu, cuda::Conv::new(gpu, cuda::ConvPass::WeightGrad, Float::F32, shape, false)?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, u: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(u) = u[0] else { return Ok(Vec::new()) };
        let (x, dy) = (node.inputs[0], node.inputs[1]);
        Ok(vec![want.add(0, || t.one(LinearInputGrad, &[dy, u]))?, want.add(1, || t.one(Linear, &[x, u]))?])
    }
}

fn three(n: usize, c: usize, k: usize) -> Vec<Case> {
    let (x, w, y): (&[usize], &[usize], &[usize]) = (&[n, c], &[k, c], &[n, k]);
    let forward = |t: &mut Tape, x: &[Var]| t.record(Linear, x);
    vec![
        Case::new(
            format!("forward {n}×{c}→{k}"),
            &[(x, F::Normal), (w, F::Normal), (&[k], F::Normal)],
            forward,
        ),
        Case::new(format!("input_grad {n}×{c}→{k}"), &[(y, F::Normal), (w, F::Normal)], |t, x| {
            t.record(LinearInputGrad, x)
        }),
        Case::new(format!("weight_grad {n}×{c}→{k}"), &[(x, F::Normal), (y, F::Normal)], |t, x| {
            t.record(LinearWeightGrad, x)
        }),
    ]
}

pub(super) fn cases() -> Cases {
    let forward = |t: &mut Tape, x: &[Var]| t.record(Linear, x);
    Cases {
        small: three(5, 7, 3).into_iter().chain(three(1, 2, 19)).collect(),
        invalid: vec![
            Case::new("features", &[(&[2, 3], F::Normal), (&[4, 5], F::Normal)], forward),
            Case::new("rank", &[(&[2, 3, 1], F::Normal), (&[4, 3], F::Normal)], forward),
        ],
        bench: three(192, 128, 10).into_iter().chain(three(192, 640, 10)).collect(),
    }
}
