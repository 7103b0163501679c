//! Batch norm with batch statistics, and the leaky ReLU after it, as one op; of a tensor, or of a residual sum. The gradient
//! too is one op.

use super::bn_coeffs::BnCoeffsGrad;
use super::bn_stats::through;
use super::elementwise::{Axpby, Mul};
use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{
    GpuWork, Grad, GradRequest, Op, Prepared, check_inputs_bf16, cpu_kernel, cuda_kernel, ensure, float, real,
};
use crate::ops::grouped::{grouped, grouped_or_unsupported};
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::batch_norm::{self as kernel, Constants, cuda};
use std::sync::Arc;

/// h = leaky_relu((y − mean)·scale + beta) with scale = gamma/√(var + ε), where y is x, or x + add. Inputs: x, N×H×W×C;
/// gamma and beta, `[C]`; with `residual` a tensor `add` of the shape of x. Outputs: h; mean and biased variance of y in each
/// group, and scale, `[G, C]` each; with `residual` y. Only x, add, h and y may be bf16.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// Images of each group, in order.
    pub groups: Vec<usize>,
    /// ε, added to variances.
    pub eps: f64,
    /// Slope below zero.
    pub leak: f64,
    /// Whether there is a tensor to add.
    pub residual: bool,
}

impl BatchNorm {
    fn constants(&self) -> Constants {
        Constants { eps: self.eps, leak: self.leak }
    }

    fn stat(&self, x: &Spec) -> Spec {
        x.wide().with_shape(&[self.groups.len(), x.last()])
    }
}

impl Op for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        let n = 3 + usize::from(self.residual);
        check_inputs_bf16(x, n..=n, &[], |i| i == 0 || i == 3)?;
        grouped(&x[0], &self.groups)?;
        let c = [x[0].last()];
        ensure!(x[1].shape() == c && x[2].shape() == c, "gamma {} or beta {} do not fit x", x[1], x[2]);
        ensure!(!self.residual || x[3] == x[0], "the tensor to add differs in shape or type from x");
        let stat = self.stat(&x[0]);
        Ok([x[0], stat, stat, stat].into_iter().chain(self.residual.then_some(x[0])).collect())
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        (8 + u64::from(self.residual)) * x[0].len() as u64
    }
    fn bytes(&self, x: &[Spec], _: &[Spec]) -> u64 {
        // One pass reads y, or reads both summands and writes it; another reads it and writes h.
        (if self.residual { 5 } else { 3 }) * x[0].bytes() as u64
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        GpuWork { again: x[0].bytes() as u64, ..GpuWork::own(3, self.bytes(x, y)) }
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        if self.residual { &[(4, 0)] } else { &[] }
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let Ok(shape) = grouped(&x[0], &self.groups) else { return cpu_kernel(cpu, 0, |_, _| Ok(())) };
        let (norm, residual) = (kernel::Forward::new(shape, self.constants()), self.residual);
        let ws = norm.workspace() * x[0].dtype.size();
        real!(x[0], T => cpu_kernel(cpu, ws, move |cpu, io| {
            let x: &[T] = if residual {
                let y = io.output::<T>(4)?;
                kernel::sum(cpu, io.input_or_place::<T>(0, 4)?, io.input(3)?, y);
                y
            } else {
                io.input(0)?
            };
            let (h, mean, var, scale) = (io.output(0)?, io.output(1)?, io.output(2)?, io.output(3)?);
            let out = kernel::Outputs { h, mean, var, scale };
            norm.run(cpu, x, (io.input(1)?, io.input(2)?), out, io.workspace()?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> Result<Prepared> {
        let shape = grouped_or_unsupported(self, &x[0], &self.groups)?;
        let residual = self.residual;
        let norm = cuda::Forward::new(gpu, float(&x[0]), &shape, residual, self.constants())?;
        cuda_kernel(gpu, norm.workspace(), move |gpu, io| {
            let sum = if residual { Some((io.gpu_input(3)?, io.gpu_output(4)?)) } else { None };
            let affine = cuda::Affine { gamma: io.gpu_input(1)?, beta: io.gpu_input(2)? };
            let out = cuda::Outputs {
                h: io.gpu_output(0)?,
                mean: io.gpu_output(1)?,
                var: io.gpu_output(2)?,
                scale: io.gpu_output(3)?,
            };
            Ok(norm.run(gpu, io.gpu_input(0)?, sum, affine, out, io.gpu_workspace()?)?)
        })
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let (&[x, gamma, beta, ..], &[_, mean, var, scale, ..]) = (&node.inputs[..], &node.outputs[..])
        else {
            return Ok(Vec::new());
        };
        let y = node.outputs.get(4).copied().unwrap_or(x);
        // What y is used for besides h.
        let before = if self.residual { dy[4] } else { want.accumulated[0] };
        let (mut dx, mut dgamma, mut dbeta) = (before, None, None);
        if let Some(dh) = dy[0] {
            let op = BatchNormGrad { forward: self.clone(), add: before.is_some() };
            let inputs: Vec<Var> = [y, dh, mean, var, scale, gamma, beta].into_iter().chain(before).collect();
            let out = t.record(op, &inputs)?;
            (dx, dgamma, dbeta) = (Some(out[0]), Some(out[1]), Some(out[2]));
        }
        let mut dvar = dy[2];
        if let Some(dscale) = dy[3] {
            let more = t.record(BnCoeffsGrad { eps: self.eps }, &[var, gamma, dscale])?;
            let mut add = |old: Option<Var>, new| match old {
                Some(old) => t.one(Axpby { a: 1.0, b: 1.0 }, &[old, new]).map(Some),
                None => Ok(Some(new)),
            };
            (dvar, dgamma) = (add(dvar, more[0])?, add(dgamma, more[1])?);
        }
        if dy[1].is_some() || dvar.is_some() {
            dx = Some(through(t, &self.groups, y, mean, dx, (dy[1], dvar))?);
        }
        let given = |v: Option<Var>, i: usize| v.filter(|_| want.needs(i)).map_or(Grad::None, Grad::Add);
        let of_x = match dx.filter(|_| want.needs(0)) {
            Some(dx) if !self.residual => Grad::Accumulated(dx),
            dx => dx.map_or(Grad::None, Grad::Add),
        };
        Ok(vec![of_x, given(dgamma, 1), given(dbeta, 2), given(dx.filter(|_| self.residual), 3)])
    }
}

/// The gradients of the normalised tensor, of gamma and of beta. Inputs: y, the gradient of h, mean, variance, scale, gamma and
/// beta; with `add` a tensor of the shape of y to add to its gradient.
#[derive(Clone, Debug)]
pub struct BatchNormGrad {
    /// The forward op.
    pub forward: BatchNorm,
    /// Whether there is a tensor to add.
    pub add: bool,
}

impl Op for BatchNormGrad {
    fn name(&self) -> &'static str {
        "batch_norm_grad"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        let n = 7 + usize::from(self.add);
        check_inputs_bf16(x, n..=n, &[], |i| i < 2 || i == 7)?;
        grouped(&x[0], &self.forward.groups)?;
        ensure!(
            x[1] == x[0] && (!self.add || x[7] == x[0]),
            "the gradient or the tensor to add differs in shape or type from the normalised tensor"
        );
        let stat = self.forward.stat(&x[0]);
        ensure!(x[2..5].iter().all(|s| *s == stat), "statistics do not fit");
        let c = [x[0].last()];
        ensure!(x[5].shape() == c && x[6].shape() == c, "gamma {} or beta {} do not fit", x[5], x[6]);
        Ok(vec![x[0], x[5], x[6]])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        15 * x[0].len() as u64
    }
    fn bytes(&self, x: &[Spec], _: &[Spec]) -> u64 {
        // One pass reads y and the gradient of h; another reads both again and writes the gradient of y.
        (5 + u64::from(self.add)) * x[0].bytes() as u64
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        GpuWork { again: 2 * x[0].bytes() as u64, ..GpuWork::own(3, self.bytes(x, y)) }
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let Ok(shape) = grouped(&x[0], &self.forward.groups) else {
            return cpu_kernel(cpu, 0, |_, _| Ok(()));
        };
        let (grad, add) = (kernel::Gradient::new(shape, self.forward.constants()), self.add);
        let ws = grad.workspace() * x[0].dtype.size();
        real!(x[0], T => cpu_kernel(cpu, ws, move |cpu, io| {
            let from = kernel::Inputs::<T> {
                x: io.input(0)?,
                dh: io.input(1)?,
                mean: io.input(2)?,
                var: io.input(3)?,
                scale: io.input(4)?,
                gamma: io.input(5)?,
                beta: io.input(6)?,
                add: if add { Some(io.input(7)?) } else { None },
            };
            grad.run(cpu, from, (io.output(0)?, io.output(1)?, io.output(2)?), io.workspace()?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> Result<Prepared> {
        let shape = grouped_or_unsupported(self, &x[0], &self.forward.groups)?;
        let grad = cuda::Gradient::new(gpu, float(&x[0]), &shape, self.forward.constants())?;
        let add = self.add;
        cuda_kernel(gpu, grad.workspace(), move |gpu, io| {
            let from = cuda::Inputs {
                x: io.gpu_input(0)?,
                dh: io.gpu_input(1)?,
                mean: io.gpu_input(2)?,
                var: io.gpu_input(3)?,
                scale: io.gpu_input(4)?,
                gamma: io.gpu_input(5)?,
                beta: io.gpu_input(6)?,
                add: if add { Some(io.gpu_input(7)?) } else { None },
            };
            let out = [io.gpu_output(0)?, io.gpu_output(1)?, io.gpu_output(2)?];
            Ok(grad.run(gpu, from, out, io.gpu_workspace()?)?)
        })
    }
}

/// A case with `residual` or without, and its inputs; `all`: every output, else h and y.
fn case(name: &str, groups: &[usize], [h, w, c]: [usize; 3], residual: bool, all: bool) -> Case {
    let x = [groups.iter().sum(), h, w, c];
    let inputs: [(&[usize], F); 4] =
        [(&x, F::Normal), (&[c], F::Positive), (&[c], F::Normal), (&x, F::Normal)];
    let op = BatchNorm { groups: groups.to_vec(), eps: 1e-5, leak: 0.2, residual };
    let record = move |t: &mut Tape, v: &[Var]| {
        let mut out = t.record(op.clone(), v)?;
        if !all {
            out.drain(1..4);
        }
        Ok(out)
    };
    let case = Case::new(name, &inputs[..3 + usize::from(residual)], record);
    if residual { case.bf16(&[0, 3]) } else { case.bf16(&[0]) }
}

pub(super) fn cases() -> Cases {
    let other_use = |t: &mut Tape, v: &[Var]| {
        let op = BatchNorm { groups: vec![5], eps: 1e-5, leak: 0.2, residual: false };
        let h = t.one(op, v)?;
        t.record(Mul, &[h, v[0]])
    };
    let (x, c): (&[usize], &[usize]) = (&[5, 3, 2, 7], &[7]);
    let of_x = [(x, F::Normal), (c, F::Positive), (c, F::Normal)];
    let invalid = |name: &str, x: &[usize], gamma: usize| {
        let op = BatchNorm { groups: vec![2, 3], eps: 1e-5, leak: 0.2, residual: false };
        Case::new(name, &[(x, F::Normal), (&[gamma][..], F::Normal), (c, F::Normal)], move |t, v| {
            t.record(op.clone(), v)
        })
    };
    let mut bench = Vec::new();
    for (h, c) in [(32, 32), (32, 160), (8, 640)] {
        bench.push(case(&format!("{h}×{h}×{c}"), &[64], [h, h, c], false, false));
        bench.push(case(&format!("sum {h}×{h}×{c}"), &[64], [h, h, c], true, false));
    }
    Cases {
        small: vec![
            case("two groups", &[2, 3], [3, 2, 7], false, true),
            case("residual", &[2, 3], [3, 2, 7], true, true),
            case("residual in packs", &[2, 3], [3, 2, 16], true, false),
            Case::new("another use of x", &of_x, other_use).bf16(&[0]),
        ],
        invalid: vec![invalid("groups", &[4, 3, 2, 7], 7), invalid("gamma", &[5, 3, 2, 7], 6)],
        bench,
    }
}
