//! 2-D convolution of N×H×W×C images with K×R×S×C filters, and its two gradients as ops of their own. The gradients of these
//! three ops are again among the three.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::{Error, Result};
use crate::op::{
    GpuWork, Grad, GradRequest, Op, Prepared, check_inputs_bf16, cpu_kernel, cuda_kernel, ensure, float, real,
};
use crate::ops::cast::like;
use crate::ops::reduce::SumRows;
use crate::spec::{DType, Spec};
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::conv2d::{Add, Conv, ConvShape, ConvWeightGrad, cuda};
use std::sync::Arc;

/// Stride and padding of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Input pixels between neighbouring output pixels.
    pub stride: usize,
    /// Zero rows and columns on every side.
    pub pad: usize,
}

impl Geometry {
    pub(crate) fn shape(self, x: &Spec, w: &Spec) -> core::result::Result<ConvShape, String> {
        let (&[n, h, wd, c], &[k, r, s, wc]) = (x.shape(), w.shape()) else {
            return Err(format!("needs an N×H×W×C image and K×R×S×C filters, got {x} and {w}"));
        };
        ensure!(c == wc, "the image has {c} channels, the filters {wc}");
        ensure!(self.stride > 0, "the stride is 0");
        ensure!(
            h + 2 * self.pad >= r && wd + 2 * self.pad >= s,
            "filters {w} are larger than the padded image {x}"
        );
        Ok(ConvShape { n, h, w: wd, c, k, r, s, stride: self.stride, pad: self.pad })
    }
}

/// The shape of a convolution for a CUDA kernel; shapes were checked when the op was recorded.
pub(crate) fn fit(op: &dyn Op, shape: core::result::Result<ConvShape, String>) -> Result<ConvShape> {
    shape.map_err(|_| Error::Unsupported { op: op.name(), why: "its shapes do not fit" })
}

pub(crate) fn output(s: &ConvShape) -> [usize; 4] {
    [s.n, s.oh(), s.ow(), s.k]
}

/// y = x ∗ w + bias + residual. Inputs: x, w, then `bias[K]` if `bias`, then a tensor of the shape of y if `residual`. All
/// but the bias may be bf16.
#[derive(Clone, Copy, Debug)]
pub struct Conv2d {
    /// Stride and padding.
    pub geometry: Geometry,
    /// Whether there is a bias input.
    pub bias: bool,
    /// Whether there is a residual input.
    pub residual: bool,
}

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        let n = 2 + usize::from(self.bias) + usize::from(self.residual);
        check_inputs_bf16(x, n..=n, &[], |i| i < 2 || !(self.bias && i == 2))?;
        let s = self.geometry.shape(&x[0], &x[1])?;
        let y = x[0].with_shape(&output(&s));
        if self.bias {
            ensure!(x[2].shape() == [s.k], "the bias is {}, not {} values", x[2], s.k);
        }
        if self.residual {
            ensure!(x[n - 1] == y, "the residual is {}, not {y}", x[n - 1]);
        }
        Ok(vec![y])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        self.geometry.shape(&x[0], &x[1]).map_or(0, |s| s.flops())
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        match (self.residual, self.bias) {
            (true, true) => &[(0, 3)],
            (true, false) => &[(0, 2)],
            _ => &[],
        }
    }
    fn gpu_work(&self, _: &[Spec], y: &[Spec]) -> GpuWork {
        // What is added in place, as a residual that nothing else reads is, the library adds.
        let passes = u64::from(self.bias);
        GpuWork { launches: passes, bytes: 2 * passes * y[0].bytes() as u64, ..GpuWork::library() }
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let Ok(shape) = self.geometry.shape(&x[0], &x[1]) else { return cpu_kernel(cpu, 0, |_, _| Ok(())) };
        let (conv, bias, residual) = (Conv::forward(cpu.products, shape), self.bias, self.residual);
        let ws = conv.workspace(cpu) * x[0].dtype.size();
        real!(x[0], T => cpu_kernel(cpu, ws, move |cpu, io| {
            let b = if bias { Some(io.input::<T>(2)?) } else { None };
            let add = match residual {
                false => Add::None,
                true => io.input_or_place::<T>(2 + usize::from(bias), 0)?.map_or(Add::InPlace, Add::From),
            };
            let (x, w) = (io.input::<T>(0)?.into(), io.input::<T>(1)?);
            conv.run(cpu, x, w, b, add, io.output::<T>(0)?, None, io.workspace::<T>()?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> Result<Prepared> {
        let shape = fit(self, self.geometry.shape(&x[0], &x[1]))?;
        let conv = cuda::Conv::new(gpu, cuda::ConvPass::Forward, float(&x[0]), shape, self.residual)?;
        let (bias, residual) = (self.bias, self.residual);
        cuda_kernel(gpu, conv.workspace(), move |gpu, io| {
            let b = if bias { Some(io.gpu_input(2)?) } else { None };
            let add = if residual { Some(io.gpu_input(2 + usize::from(bias))?) } else { None };
            let from = (io.gpu_input(0)?, io.gpu_input(1)?);
            Ok(conv.run(gpu, from, b, add, io.gpu_output(0)?, io.gpu_workspace()?)?)
        })
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let (x, w, geometry) = (node.inputs[0], node.inputs[1], self.geometry);
        let (xs, ws) = (t.spec(x)?, t.spec(w)?);
        let dx = want.accumulate(0, |add| Conv2dInputGrad::record(t, geometry, xs, dy, w, add))?;
        let dw = want.add(1, || t.one(Conv2dWeightGrad { geometry, w: ws }, &[x, dy]))?;
        let mut grads = vec![dx, dw];
        if self.bias {
            grads.push(want.add(2, || t.one(SumRows, &[dy]))?);
        }
        if self.residual {
            grads.push(want.add(grads.len(), || Ok(dy))?);
        }
        Ok(grads)
    }
}

/// The gradient of x. Inputs: dy, w, and optionally a tensor of the shape of x to add.
#[derive(Clone, Copy, Debug)]
pub struct Conv2dInputGrad {
    /// Stride and padding.
    pub geometry: Geometry,
    /// Spec of x.
    pub x: Spec,
}

impl Conv2dInputGrad {
    pub(crate) fn record(
        t: &mut Tape,
        geometry: Geometry,
        x: Spec,
        dy: Var,
        w: Var,
        add: Option<Var>,
    ) -> Result<Var> {
        let inputs: Vec<Var> = [dy, w].into_iter().chain(add).collect();
        t.one(Self { geometry, x }, &inputs)
    }
}

impl Op for Conv2dInputGrad {
    fn name(&self) -> &'static str {
        "conv2d_input_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 2..=3, &[], |_| true)?;
        let s = self.geometry.shape(&self.x, &x[1])?;
        ensure!(x[0].shape() == output(&s), "dy is {}, not {:?}", x[0], output(&s));
        ensure!(x.len() < 3 || x[2].shape() == self.x.shape(), "the tensor to add is not {}", self.x);
        Ok(vec![x[0].with_shape(self.x.shape())])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        self.geometry.shape(&self.x, &x[1]).map_or(0, |s| s.flops())
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        &[(0, 2)]
    }
    fn gpu_work(&self, _: &[Spec], _: &[Spec]) -> GpuWork {
        GpuWork::library()
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let Ok(shape) = self.geometry.shape(&self.x, &x[1]) else { return cpu_kernel(cpu, 0, |_, _| Ok(())) };
        let (conv, residual) = (Conv::input_grad(cpu.products, shape), x.len() > 2);
        let ws = conv.workspace(cpu) * x[0].dtype.size();
        real!(x[0], T => cpu_kernel(cpu, ws, move |cpu, io| {
            let add = match residual {
                false => Add::None,
                true => io.input_or_place::<T>(2, 0)?.map_or(Add::InPlace, Add::From),
            };
            let (dy, w) = (io.input::<T>(0)?.into(), io.input::<T>(1)?);
            conv.run(cpu, dy, w, None, add, io.output::<T>(0)?, None, io.workspace::<T>()?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> Result<Prepared> {
        let shape = fit(self, self.geometry.shape(&self.x, &x[1]))?;
        let conv = cuda::Conv::new(gpu, cuda::ConvPass::InputGrad, float(&x[0]), shape, x.len() > 2)?;
        let residual = x.len() > 2;
        cuda_kernel(gpu, conv.workspace(), move |gpu, io| {
            let add = if residual { Some(io.gpu_input(2)?) } else { None };
            let from = (io.gpu_input(0)?, io.gpu_input(1)?);
            Ok(conv.run(gpu, from, None, add, io.gpu_output(0)?, io.gpu_workspace()?)?)
        })
    }
    fn vjp(&self, t: &mut Tape, node: &Node, u: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(u) = u[0] else { return Ok(Vec::new()) };
        let (dy, w, geometry) = (node.inputs[0], node.inputs[1], self.geometry);
        let ws = t.spec(w)?;
        let forward = Conv2d { geometry, bias: false, residual: false };
        Ok(vec![
            want.add(0, || t.one(forward, &[u, w]))?,
            want.add(1, || t.one(Conv2dWeightGrad { geometry, w: ws }, &[u, dy]))?,
            want.add(2, || Ok(u))?,
        ])
    }
}

/// The gradient of w, from x and dy; in float32 if they are bf16.
#[derive(Clone, Copy, Debug)]
pub struct Conv2dWeightGrad {
    /// Stride and padding.
    pub geometry: Geometry,
    /// Spec of w.
    pub w: Spec,
}

impl Op for Conv2dWeightGrad {
    fn name(&self) -> &'static str {
        "conv2d_weight_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 2..=2, &[], |_| true)?;
        let s = self.geometry.shape(&x[0], &self.w)?;
        ensure!(x[1].shape() == output(&s), "dy is {}, not {:?}", x[1], output(&s));
        Ok(vec![x[0].wide().with_shape(self.w.shape())])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        self.geometry.shape(&x[0], &self.w).map_or(0, |s| s.flops())
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        // The library's gradient of bf16 filters is widened.
        let (low, n) = (u64::from(x[0].dtype == DType::BF16), y[0].bytes() as u64);
        GpuWork { launches: low, bytes: low * (n + n / 2), ..GpuWork::library() }
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let Ok(shape) = self.geometry.shape(&x[0], &self.w) else { return cpu_kernel(cpu, 0, |_, _| Ok(())) };
        let conv = ConvWeightGrad::new(cpu.products, shape);
        let ws = conv.workspace(cpu) * x[0].dtype.size();
        real!(x[0], T => cpu_kernel(cpu, ws, move |cpu, io| {
            conv.run(cpu, io.input::<T>(0)?.into(), io.input::<T>(1)?, io.output::<T>(0)?, io.workspace::<T>()?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> Result<Prepared> {
        let shape = fit(self, self.geometry.shape(&x[0], &self.w))?;
        let conv = cuda::Conv::new(gpu, cuda::ConvPass::WeightGrad, float(&x[0]), shape, false)?;
        cuda_kernel(gpu, conv.workspace(), move |gpu, io| {
            let from = (io.gpu_input(0)?, io.gpu_input(1)?);
            Ok(conv.run(gpu, from, None, None, io.gpu_output(0)?, io.gpu_workspace()?)?)
        })
    }
    fn vjp(&self, t: &mut Tape, node: &Node, u: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(u) = u[0] else { return Ok(Vec::new()) };
        let (x, dy, geometry) = (node.inputs[0], node.inputs[1], self.geometry);
        let xs = t.spec(x)?;
        let u = like(t, u, xs.dtype)?;
        let forward = Conv2d { geometry, bias: false, residual: false };
        Ok(vec![
            want.accumulate(0, |add| Conv2dInputGrad::record(t, geometry, xs, dy, u, add))?,
            want.add(1, || t.one(forward, &[x, u]))?,
        ])
    }
}

/// (n, h, w, c, k, filter, stride, pad)
type Dims = (usize, usize, usize, usize, usize, usize, usize, usize);

/// Forward pass and gradients with square filters.
fn three(d: Dims) -> Vec<Case> {
    oblong(d, d.5)
}

/// Forward pass and gradients with filters of height f and width `width`.
fn oblong((n, h, w, c, k, f, stride, pad): Dims, width: usize) -> Vec<Case> {
    let geometry = Geometry { stride, pad };
    let x = [n, h, w, c];
    let ws = [k, f, width, c];
    let y = [n, (h + 2 * pad - f) / stride + 1, (w + 2 * pad - width) / stride + 1, k];
    let what = format!("{n}×{h}×{w}×{c}→{k} {f}×{width}/{stride}");
    vec![
        Case::new(
            format!("forward {what}"),
            &[(&x, F::Normal), (&ws, F::Normal), (&[k], F::Normal), (&y, F::Normal)],
            move |t, x| t.record(Conv2d { geometry, bias: true, residual: true }, x),
        )
        .bf16(&[0, 1, 3]),
        Case::new(
            format!("input_grad {what}"),
            &[(&y, F::Normal), (&ws, F::Normal), (&x, F::Normal)],
            move |t, v| {
                let x = t.spec(v[2])?;
                t.record(Conv2dInputGrad { geometry, x }, v)
            },
        )
        .bf16(&[0, 1, 2]),
        Case::new(format!("weight_grad {what}"), &[(&x, F::Normal), (&y, F::Normal)], move |t, v| {
            let w = t.spec(v[0])?.with_shape(&ws);
            t.record(Conv2dWeightGrad { geometry, w }, v)
        })
        .bf16(&[0, 1]),
    ]
}

pub(super) fn cases() -> Cases {
    let plain = Conv2d { geometry: Geometry { stride: 1, pad: 1 }, bias: false, residual: false };
    let go = move |t: &mut Tape, x: &[Var]| t.record(plain, x);
    let small = [
        (2, 5, 7, 3, 4, 3, 1, 1),
        (2, 5, 6, 2, 3, 3, 2, 1),
        (3, 4, 3, 1, 5, 3, 1, 1),
        (1, 7, 5, 3, 2, 1, 2, 0),
        (2, 3, 3, 5, 4, 1, 1, 0),
        (1, 6, 7, 2, 18, 3, 2, 1),
    ];
    let (across, down) = (oblong((2, 5, 9, 3, 4, 1, 1, 0), 7), oblong((2, 9, 6, 2, 3, 4, 2, 1), 1));
    let bench = [
        (64, 32, 32, 3, 16, 3, 1, 1),
        (64, 32, 32, 32, 32, 3, 1, 1),
        (64, 32, 32, 64, 64, 3, 1, 1),
        (64, 32, 32, 64, 64, 3, 2, 1),
        (64, 16, 16, 64, 64, 3, 1, 1),
        (64, 8, 8, 128, 128, 3, 1, 1),
        (64, 32, 32, 16, 32, 1, 1, 0),
        (64, 32, 32, 32, 64, 3, 2, 1),
        (64, 32, 32, 32, 64, 1, 2, 0),
        (64, 16, 16, 64, 128, 3, 2, 1),
        (64, 8, 8, 16, 16, 3, 1, 1),
        (64, 8, 8, 1, 16, 3, 1, 1),
        (8, 32, 32, 160, 160, 3, 1, 1),
        (8, 32, 32, 16, 160, 1, 1, 0),
        (8, 32, 32, 160, 320, 3, 2, 1),
        (8, 32, 32, 160, 320, 1, 2, 0),
        (8, 16, 16, 320, 320, 3, 1, 1),
        (8, 8, 8, 640, 640, 3, 1, 1),
    ];
    Cases {
        small: small.into_iter().flat_map(three).chain(across).chain(down).collect(),
        invalid: vec![
            Case::new("channels", &[(&[1, 4, 4, 3], F::Normal), (&[2, 3, 3, 2], F::Normal)], go),
            Case::new("rank", &[(&[4, 4, 3], F::Normal), (&[2, 3, 3, 3], F::Normal)], go),
            Case::new("too large", &[(&[1, 1, 1, 3], F::Normal), (&[2, 5, 5, 3], F::Normal)], go),
        ],
        bench: bench.into_iter().flat_map(three).collect(),
    }
}
