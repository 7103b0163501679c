//! A convolution fused with the batch norms around it in a pre-activation network. In the prologue the input is normalised and
//! rectified as it is loaded, so that the normalised tensor is never stored; in the epilogue the output's batch statistics
//! are accumulated as it is written. The gradients are fused likewise. Made for CPUs: on a GPU the unfused kernels run one
//! after another.

use super::bn_stats::through;
use super::conv2d::{Conv2dInputGrad, Conv2dWeightGrad, Geometry, fit, output};
use super::scale_shift_leaky::{ScaleShiftLeaky, ScaleShiftLeakyGrad, coefficients};
use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{Grad, GradRequest, Op, Prepared, check_inputs, cpu_kernel, cuda_kernel, ensure, real};
use crate::ops::grouped::grouped;
use crate::ops::reduce::SumRows;
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::conv2d::Add;
use kernels::ops::fused_conv2d::{self as kernel, Normalise, cuda};
use std::sync::Arc;

/// y = x' ∗ w + bias + residual, where x' is x normalised by `norm`, or x itself. Inputs: x, w, `bias[K]`; with `norm` also
/// mean, scale and shift; with `residual` also a tensor of the shape of y. Outputs: y; with `stats` also mean[G, K] and
/// biased var[G, K] of y.
#[derive(Clone, Debug)]
pub struct FusedConv2d {
    /// Stride and padding.
    pub geometry: Geometry,
    /// The normalisation of x.
    pub norm: Option<ScaleShiftLeaky>,
    /// Whether there is a residual input.
    pub residual: bool,
    /// The groups of images (images per group, in order) for which statistics of y are computed, if any.
    pub stats: Option<Vec<usize>>,
}

impl ScaleShiftLeaky {
    fn on_load(&self) -> Normalise {
        Normalise::new(&self.groups, self.leak)
    }

    fn on_gpu(&self, mean: &Spec) -> cuda::NormOptions<'_> {
        cuda::NormOptions { groups: &self.groups, shared: mean.rank() == 1, leak: self.leak }
    }
}

impl FusedConv2d {
    /// Index of the residual input, if there is one: the last.
    fn added(&self) -> Option<usize> {
        self.residual.then_some(if self.norm.is_some() { 6 } else { 3 })
    }
}

impl Op for FusedConv2d {
    fn name(&self) -> &'static str {
        "fused_conv2d"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        let n = 3 + 3 * usize::from(self.norm.is_some()) + usize::from(self.residual);
        check_inputs(x, n..=n, &[])?;
        let s = self.geometry.shape(&x[0], &x[1])?;
        let y = x[0].with_shape(&output(&s));
        ensure!(x[2].shape() == [s.k], "the bias is {}, not {} values", x[2], s.k);
        if let Some(norm) = &self.norm {
            norm.fits(&[x[0], x[3], x[4], x[5]])?;
        }
        ensure!(self.added().is_none_or(|i| x[i] == y), "the residual is {}, not {y}", x[n - 1]);
        let Some(groups) = &self.stats else { return Ok(vec![y]) };
        grouped(&y, groups)?;
        let stat = y.with_shape(&[groups.len(), s.k]);
        Ok(vec![y, stat, stat])
    }
    fn flops(&self, x: &[Spec], y: &[Spec]) -> u64 {
        let conv = self.geometry.shape(&x[0], &x[1]).map_or(0, |s| s.flops());
        let norm = if self.norm.is_some() { 4 * x[0].len() as u64 } else { 0 };
        conv + norm + if self.stats.is_some() { 4 * y[0].len() as u64 } else { 0 }
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        match self.added() {
            Some(6) => &[(0, 6)],
            Some(_) => &[(0, 3)],
            None => &[],
        }
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let Ok(shape) = self.geometry.shape(&x[0], &x[1]) else { return cpu_kernel(cpu, 0, |_, _| Ok(())) };
        let norm = self.norm.as_ref().map(ScaleShiftLeaky::on_load);
        let (normed, stats, residual) = (norm.is_some(), self.stats.is_some(), self.added());
        let conv = kernel::Forward::new(cpu.products, shape, norm, self.stats.as_deref());
        let ws = conv.workspace(cpu) * x[0].dtype.size();
        real!(x[0], T => cpu_kernel(cpu, ws, move |cpu, io| {
            let coefficients = match normed {
                true => Some([io.input::<T>(3)?, io.input(4)?, io.input(5)?]),
                false => None,
            };
            let add = match residual {
                Some(i) => io.input_or_place::<T>(i, 0)?.map_or(Add::InPlace, Add::From),
                None => Add::None,
            };
            let (from, filters) = ((io.input::<T>(0)?, coefficients), (io.input(1)?, io.input(2)?));
            let y = io.output(0)?;
            let found = if stats { Some((io.output(1)?, io.output(2)?)) } else { None };
            conv.run(cpu, from, filters, add, y, found, io.workspace()?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> Result<Prepared> {
        let shape = fit(self, self.geometry.shape(&x[0], &x[1]))?;
        let norm = self.norm.as_ref().map(|norm| norm.on_gpu(&x[3]));
        let (normed, stats, residual) = (norm.is_some(), self.stats.is_some(), self.added());
        let conv = cuda::Forward::new(gpu, shape, norm, self.stats.as_deref(), self.residual)?;
        cuda_kernel(gpu, conv.workspace(), move |gpu, io| {
            let coefficients = match normed {
                true => Some([io.gpu_input(3)?, io.gpu_input(4)?, io.gpu_input(5)?]),
                false => None,
            };
            let add = residual.map(|i| io.gpu_input(i)).transpose()?;
            let (from, filters) = ((io.gpu_input(0)?, coefficients), (io.gpu_input(1)?, io.gpu_input(2)?));
            let found = if stats { Some((io.gpu_output(1)?, io.gpu_output(2)?)) } else { None };
            Ok(conv.run(gpu, from, filters, add, io.gpu_output(0)?, found, io.gpu_workspace()?)?)
        })
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let dy = match &self.stats {
            Some(groups) if dy[1].is_some() || dy[2].is_some() => {
                Some(through(t, groups, node.outputs[0], node.outputs[1], dy[0], (dy[1], dy[2]))?)
            }
            _ => dy[0],
        };
        let (Some(dy), &[x, w, ..]) = (dy, &node.inputs[..]) else { return Ok(Vec::new()) };
        let (geometry, ws) = (self.geometry, t.spec(w)?);
        let mut grads = match &self.norm {
            None => {
                let xs = t.spec(x)?;
                let dx = want.accumulate(0, |add| Conv2dInputGrad::record(t, geometry, xs, dy, w, add))?;
                vec![dx, want.add(1, || t.one(Conv2dWeightGrad { geometry, w: ws }, &[x, dy]))?]
            }
            Some(norm) => self.normed_vjp(t, norm, node, dy, want)?,
        };
        grads.insert(2, want.add(2, || t.one(SumRows, &[dy]))?);
        if let Some(i) = self.added() {
            grads.push(want.add(i, || Ok(dy))?);
        }
        Ok(grads)
    }
}

impl FusedConv2d {
    /// Gradients of x, w, mean, scale and shift.
    fn normed_vjp(
        &self,
        t: &mut Tape,
        norm: &ScaleShiftLeaky,
        node: &Node,
        dy: Var,
        want: &GradRequest,
    ) -> Result<Vec<Grad>> {
        let &[x, w, _, mean, scale, shift, ..] = &node.inputs[..] else { return Ok(Vec::new()) };
        let (geometry, norm, xs, ws) = (self.geometry, norm.clone(), t.spec(x)?, t.spec(w)?);
        let summed = (3..6).any(|i| want.needs(i));
        let (mut dh, mut sums) = (None, None);
        if summed {
            let op = FusedConv2dInputGrad { geometry, norm: norm.clone() };
            let out = t.record(op, &[dy, w, x, mean, scale, shift])?;
            (dh, sums) = (Some(out[0]), Some([out[1], out[2]]));
        } else if want.needs(0) {
            dh = Some(Conv2dInputGrad::record(t, geometry, xs, dy, w, None)?);
        }
        let dx = match dh {
            Some(dh) => want.accumulate(0, |add| {
                let op = ScaleShiftLeakyGrad { forward: norm.clone(), add: add.is_some(), stats: false };
                let inputs: Vec<Var> = [x, dh, mean, scale, shift].into_iter().chain(add).collect();
                t.one(op, &inputs)
            })?,
            None => Grad::None,
        };
        let of_norm = match sums {
            Some(sums) => coefficients(t, [mean, scale], sums, want, 3)?,
            None => [Grad::None; 3],
        };
        let op = FusedConv2dWeightGrad { geometry, norm, w: ws };
        let dw = want.add(1, || t.one(op, &[x, mean, scale, shift, dy]))?;
        let [dmean, dscale, dshift] = of_norm;
        Ok(vec![dx, dw, dmean, dscale, dshift])
    }
}

/// The gradient dh of the normalised input, and the sums from which the gradients of the normalisation follow:
/// dscale[G, C] = Σ dz·(x − mean) and dshift[G, C] = Σ dz with dz = leaky_relu'(z)·dh. Inputs: dy, w, x, mean, scale, shift.
/// Outputs: dh, dscale, dshift.
#[derive(Clone, Debug)]
pub struct FusedConv2dInputGrad {
    /// Stride and padding.
    pub geometry: Geometry,
    /// The normalisation of x.
    pub norm: ScaleShiftLeaky,
}

impl Op for FusedConv2dInputGrad {
    fn name(&self) -> &'static str {
        "fused_conv2d_input_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 6..=6, &[])?;
        let s = self.geometry.shape(&x[2], &x[1])?;
        ensure!(x[0].shape() == output(&s), "dy is {}, not {:?}", x[0], output(&s));
        self.norm.fits(&x[2..])?;
        let sums = x[2].with_shape(&[self.norm.groups.len(), s.c]);
        Ok(vec![x[2], sums, sums])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        self.geometry.shape(&x[2], &x[1]).map_or(0, |s| s.flops()) + 7 * x[2].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let Ok(shape) = self.geometry.shape(&x[2], &x[1]) else { return cpu_kernel(cpu, 0, |_, _| Ok(())) };
        let conv = kernel::InputGrad::new(cpu.products, shape, &self.norm.groups, self.norm.leak);
        let ws = conv.workspace(cpu) * x[0].dtype.size();
        real!(x[0], T => cpu_kernel(cpu, ws, move |cpu, io| {
            let (from, coefficients) = ((io.input::<T>(0)?, io.input(1)?), [io.input(3)?, io.input(4)?, io.input(5)?]);
            let (dh, sums) = (io.output(0)?, (io.output(1)?, io.output(2)?));
            conv.run(cpu, from, io.input(2)?, coefficients, dh, sums, io.workspace()?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> Result<Prepared> {
        let shape = fit(self, self.geometry.shape(&x[2], &x[1]))?;
        let conv = cuda::InputGrad::new(gpu, shape, self.norm.on_gpu(&x[3]))?;
        cuda_kernel(gpu, conv.workspace(), move |gpu, io| {
            let from = (io.gpu_input(0)?, io.gpu_input(1)?);
            let coefficients = [io.gpu_input(3)?, io.gpu_input(4)?, io.gpu_input(5)?];
            let sums = (io.gpu_output(1)?, io.gpu_output(2)?);
            let (x, dh) = (io.gpu_input(2)?, io.gpu_output(0)?);
            Ok(conv.run(gpu, from, x, coefficients, dh, sums, io.gpu_workspace()?)?)
        })
    }
}

/// The gradient of w. Inputs: x, mean, scale, shift, dy.
#[derive(Clone, Debug)]
pub struct FusedConv2dWeightGrad {
    /// Stride and padding.
    pub geometry: Geometry,
    /// The normalisation of x.
    pub norm: ScaleShiftLeaky,
    /// Spec of w.
    pub w: Spec,
}

impl Op for FusedConv2dWeightGrad {
    fn name(&self) -> &'static str {
        "fused_conv2d_weight_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs(x, 5..=5, &[])?;
        let s = self.geometry.shape(&x[0], &self.w)?;
        self.norm.fits(&x[..4])?;
        ensure!(x[4].shape() == output(&s), "dy is {}, not {:?}", x[4], output(&s));
        Ok(vec![x[0].with_shape(self.w.shape())])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        self.geometry.shape(&x[0], &self.w).map_or(0, |s| s.flops()) + 4 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let Ok(shape) = self.geometry.shape(&x[0], &self.w) else { return cpu_kernel(cpu, 0, |_, _| Ok(())) };
        let conv = kernel::WeightGrad::new(cpu.products, shape, self.norm.on_load());
        let ws = conv.workspace(cpu) * x[0].dtype.size();
        real!(x[0], T => cpu_kernel(cpu, ws, move |cpu, io| {
            let coefficients = [io.input::<T>(1)?, io.input(2)?, io.input(3)?];
            let dw = io.output(0)?;
            conv.run(cpu, io.input(0)?, coefficients, io.input(4)?, dw, io.workspace()?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> Result<Prepared> {
        let shape = fit(self, self.geometry.shape(&x[0], &self.w))?;
        let conv = cuda::WeightGrad::new(gpu, shape, self.norm.on_gpu(&x[1]))?;
        cuda_kernel(gpu, conv.workspace(), move |gpu, io| {
            let coefficients = [io.gpu_input(1)?, io.gpu_input(2)?, io.gpu_input(3)?];
            let (x, dy, dw) = (io.gpu_input(0)?, io.gpu_input(4)?, io.gpu_output(0)?);
            Ok(conv.run(gpu, x, coefficients, dy, dw, io.gpu_workspace()?)?)
        })
    }
}

/// A residual block: a convolution with its statistics, normalised into the next convolution, with a residual connection.
/// Inputs: x, two filters with biases, gamma and beta of the norm, and optionally the residual, which else is the first
/// convolution's output. Outputs: y and its statistics.
fn block(t: &mut Tape, groups: &[usize], pad: usize, v: &[Var]) -> Result<Vec<Var>> {
    let &[x, w1, b1, w2, b2, gamma, beta, ..] = v else { return Ok(Vec::new()) };
    let geometry = Geometry { stride: 1, pad };
    let stats = Some(groups.to_vec());
    let first = FusedConv2d { geometry, norm: None, residual: false, stats: stats.clone() };
    let h = t.record(first, &[x, w1, b1])?;
    let scale = t.one(super::bn_coeffs::BnCoeffs { eps: 1e-5 }, &[h[2], gamma])?;
    let norm = Some(ScaleShiftLeaky { groups: groups.to_vec(), leak: 0.2 });
    let second = FusedConv2d { geometry, norm, residual: true, stats };
    let residual = v.get(7).copied().unwrap_or(h[0]);
    t.record(second, &[h[0], w2, b2, h[1], scale, beta, residual])
}

/// (n, h, w, c, k, filter, stride, pad)
type Dims = (usize, usize, usize, usize, usize, usize, usize, usize);

/// All options at once: a norm per group (or shared by all), a residual, statistics.
fn full(groups: &'static [usize], shared: bool, d: Dims) -> Case {
    let (n, h, w, c, k, f, stride, pad) = d;
    let geometry = Geometry { stride, pad };
    let norm = Some(ScaleShiftLeaky { groups: groups.to_vec(), leak: 0.2 });
    let op = FusedConv2d { geometry, norm, residual: true, stats: Some(groups.to_vec()) };
    let y = [n, (h + 2 * pad - f) / stride + 1, (w + 2 * pad - f) / stride + 1, k];
    let per_group = [groups.len(), c];
    let coefficient: &[usize] = if shared { &[c] } else { &per_group };
    let inputs: [(&[usize], F); 7] = [
        (&[n, h, w, c], F::Normal),
        (&[k, f, f, c], F::Normal),
        (&[k], F::Normal),
        (coefficient, F::Normal),
        (coefficient, F::Normal),
        (&[c], F::Normal),
        (&y, F::Normal),
    ];
    let what = if shared { "shared" } else { "by group" };
    let name = format!("{what} {n}×{h}×{w}×{c}→{k} {f}×{f}/{stride}");
    Case::new(name, &inputs, move |t, v| t.record(op.clone(), v))
}

fn block_case(groups: &'static [usize], [n, h, w, c, k]: [usize; 5], f: usize, separate: bool) -> Case {
    let y = [n, h, w, k];
    let inputs: [(&[usize], F); 8] = [
        (&[n, h, w, c], F::Normal),
        (&[k, f, f, c], F::Normal),
        // Its gradient is zero but for rounding, as the norm subtracts the mean.
        (&[k], F::Fixed),
        (&[k, f, f, k], F::Normal),
        (&[k], F::Normal),
        (&[k], F::Positive),
        (&[k], F::Normal),
        (&y, F::Normal),
    ];
    let name =
        format!("block {n}×{h}×{w}×{c}→{k} {groups:?}{}", if separate { ", another added" } else { "" });
    Case::new(name, &inputs[..7 + usize::from(separate)], move |t, v| block(t, groups, f / 2, v))
}

pub(super) fn cases() -> Cases {
    let norm = Some(ScaleShiftLeaky { groups: vec![2, 3], leak: 0.2 });
    let geometry = Geometry { stride: 1, pad: 1 };
    let op = FusedConv2d { geometry, norm, residual: false, stats: Some(vec![2, 3]) };
    let go = move |t: &mut Tape, x: &[Var]| t.record(op.clone(), x);
    let (x, w): (&[usize], &[usize]) = (&[5, 4, 4, 3], &[2, 3, 3, 3]);
    let invalid = |name: &str, bias: usize, mean: &[usize], shift: usize| {
        let inputs = [(x, F::Normal), (w, F::Normal), (&[bias][..], F::Normal), (mean, F::Normal)];
        let more = [(mean, F::Normal), (&[shift][..], F::Normal)];
        Case::new(name, &[&inputs[..], &more[..]].concat(), go.clone())
    };
    Cases {
        small: vec![
            full(&[2, 3], false, (5, 5, 6, 3, 4, 3, 1, 1)),
            full(&[2, 3], true, (5, 5, 6, 3, 4, 3, 1, 1)),
            full(&[1, 1, 2], false, (4, 6, 5, 2, 5, 3, 2, 1)),
            full(&[3], false, (3, 3, 4, 5, 3, 1, 1, 0)),
            block_case(&[2, 3], [5, 3, 4, 2, 3], 3, false),
            block_case(&[2, 3], [5, 3, 4, 2, 3], 3, true),
            block_case(&[1; 4], [4, 3, 3, 2, 17], 1, true),
        ],
        invalid: vec![
            invalid("bias", 3, &[2, 3], 3),
            invalid("mean", 2, &[3, 3], 3),
            invalid("shift", 2, &[2, 3], 2),
        ],
        bench: vec![
            full(&[64, 64, 64], false, (192, 32, 32, 32, 32, 3, 1, 1)),
            full(&[64, 64, 64], false, (192, 16, 16, 64, 64, 3, 1, 1)),
            full(&[64, 64, 64], false, (192, 8, 8, 128, 128, 3, 1, 1)),
            full(&[64, 64, 64], false, (192, 8, 8, 16, 16, 3, 1, 1)),
        ],
    }
}
