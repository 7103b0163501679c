//! Average pooling.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{Grad, GradRequest, Op, Prepared, check_inputs, cpu_kernel, cuda_launch, ensure, real};
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::avg_pool2d;
use kernels::ops::windows::Windows;
use std::sync::Arc;

/// The windows of a pooling op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Rows and columns of a window.
    pub size: usize,
    /// Pixels between the starts of neighbouring windows.
    pub stride: usize,
    /// Rows and columns of padding on every side, at most half a window.
    pub pad: usize,
}

impl Pool {
    /// The windows over x, N×H×W×C, whose spec fits ([`Pool::infer`]).
    pub(crate) fn over(self, x: &Spec) -> Windows {
        let Self { size, stride, pad } = self;
        let (shape, size_of) = (x.shape(), |i| x.shape().get(i).copied().unwrap_or(0));
        debug_assert_eq!(shape.len(), 4);
        Windows { n: x.first(), h: size_of(1), w: size_of(2), c: x.last(), size, stride, pad }
    }

    /// The spec of the output: one pixel per window.
    pub(crate) fn infer(self, x: &Spec) -> core::result::Result<Spec, String> {
        let Self { size, stride, pad } = self;
        let &[n, h, w, c] = x.shape() else { return Err(format!("needs N×H×W×C, got {x}")) };
        ensure!(size > 0 && stride > 0, "windows of {size} pixels with stride {stride} are empty");
        ensure!(2 * pad <= size, "padding of {pad} is more than half a window of {size}");
        ensure!(
            h + 2 * pad >= size && w + 2 * pad >= size,
            "a window of {size} is larger than {x} with its padding"
        );
        let v = self.over(x);
        Ok(x.with_shape(&[n, v.oh(), v.ow(), c]))
    }
}

/// N×H×W×C → the mean of each window, per channel. If `pads`, pixels of the padding count as zeros (PyTorch's
/// `count_include_pad`), else they are left out of the mean.
#[derive(Clone, Copy, Debug)]
pub struct AvgPool2d {
    /// The windows.
    pub pool: Pool,
    /// Whether padding counts.
    pub pads: bool,
}

impl Op for AvgPool2d {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 1..=1, &[])?;
        Ok(vec![self.pool.infer(&x[0])?])
    }
    fn flops(&self, _: &[Spec], y: &[Spec]) -> u64 {
        (y[0].len() * self.pool.size * self.pool.size) as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let (v, pads) = (self.pool.over(&x[0]), self.pads);
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            avg_pool2d::cpu(cpu, &v, pads, io.input::<T>(0)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, avg_pool2d::cuda::forward(gpu, &self.pool.over(&x[0]), self.pads)?)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let x = t.spec(node.inputs[0])?;
        Ok(vec![want.add(0, || t.one(AvgPool2dGrad { of: *self, x }, &[dy]))?])
    }
}

/// The gradient of [`AvgPool2d`]: dx from dy.
#[derive(Clone, Copy, Debug)]
pub struct AvgPool2dGrad {
    /// The forward op.
    pub of: AvgPool2d,
    /// Spec of x.
    pub x: Spec,
}

impl Op for AvgPool2dGrad {
    fn name(&self) -> &'static str {
        "avg_pool2d_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 1..=1, &[])?;
        let y = self.of.pool.infer(&self.x)?;
        ensure!(x[0] == y, "dy is {}, not {y}", x[0]);
        Ok(vec![self.x])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        (x[0].len() * self.of.pool.size * self.of.pool.size) as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, _: &[Spec], _: &[Spec]) -> Prepared {
        let (v, pads) = (self.of.pool.over(&self.x), self.of.pads);
        real!(self.x, T => cpu_kernel(cpu, 0, move |cpu, io| {
            avg_pool2d::grad_cpu(cpu, &v, pads, io.input::<T>(0)?, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        cuda_launch(gpu, x, y, avg_pool2d::cuda::grad(gpu, &self.of.pool.over(&self.x), self.of.pads)?)
    }
    fn vjp(&self, t: &mut Tape, _: &Node, u: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(u) = u[0] else { return Ok(Vec::new()) };
        Ok(vec![want.add(0, || t.one(self.of, &[u]))?])
    }
}

pub(super) fn cases() -> Cases {
    let of = |size, stride, pad, pads| AvgPool2d { pool: Pool { size, stride, pad }, pads };
    let case = |name: &str, shape: &[usize], op: AvgPool2d| {
        Case::new(name, &[(shape, F::Normal)], move |t, x| t.record(op, x))
    };
    Cases {
        small: vec![
            case("margin counts", &[2, 5, 6, 3], of(3, 1, 1, true)),
            case("margin does not count", &[2, 5, 6, 3], of(3, 1, 1, false)),
            case("steps", &[3, 7, 5, 17], of(2, 3, 1, false)),
            Case::new("gradient", &[(&[2, 3, 4, 5], F::Normal)], move |t, x| {
                let spec = t.spec(x[0])?.with_shape(&[2, 7, 9, 5]);
                t.record(AvgPool2dGrad { of: of(3, 2, 0, true), x: spec }, x)
            }),
        ],
        invalid: vec![
            case("rank", &[5, 6, 3], of(3, 1, 1, true)),
            case("margin", &[1, 5, 6, 3], of(3, 1, 2, true)),
            case("too large", &[1, 2, 6, 3], of(3, 1, 0, true)),
            case("no step", &[1, 5, 6, 3], of(3, 0, 0, true)),
        ],
        bench: vec![case("forward 3×3", &[8, 35, 35, 288], of(3, 1, 1, false))],
    }
}
