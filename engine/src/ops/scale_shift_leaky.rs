//! Normalise, scale, shift, leaky ReLU: the last part of batch norm, with its gradients.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{
    GpuWork, Grad, GradRequest, Op, Prepared, check_inputs_bf16, cpu_kernel, cuda_kernel, cuda_launch,
    ensure, float, real,
};
use crate::ops::elementwise::{Axpby, Mul};
use crate::ops::grouped::{grouped, grouped_or_unsupported};
use crate::ops::reduce::SumRows;
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use core::any::Any;
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::scale_shift_leaky::{self, GradArgs, Reduce, cuda};
use std::sync::Arc;

/// y = leaky_relu((x − mean)·scale + shift). Inputs: x, N×H×W×C; mean and scale, `[G, C]`, or `[C]` if all groups share them;
/// shift, `[C]`. Only x and y may be bf16.
#[derive(Clone, Debug)]
pub struct ScaleShiftLeaky {
    /// Images of each group, in order.
    pub groups: Vec<usize>,
    /// Slope below zero.
    pub leak: f64,
}

impl ScaleShiftLeaky {
    /// Whether x, mean, scale and shift fit.
    pub(crate) fn fits(&self, x: &[Spec]) -> core::result::Result<(), String> {
        grouped(&x[0], &self.groups)?;
        let c = x[0].last();
        let stat = |s: &Spec| s.shape() == [self.groups.len(), c] || s.shape() == [c];
        ensure!(stat(&x[1]) && x[2] == x[1], "mean {} or scale {} do not fit x", x[1], x[2]);
        ensure!(x[3].shape() == [c], "shift {} does not fit x", x[3]);
        Ok(())
    }
}

impl Op for ScaleShiftLeaky {
    fn name(&self) -> &'static str {
        "scale_shift_leaky"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 4..=4, &[], |i| i == 0)?;
        self.fits(x)?;
        Ok(vec![x[0]])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        4 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let Ok(shape) = grouped(&x[0], &self.groups) else { return cpu_kernel(cpu, 0, |_, _| Ok(())) };
        let leak = self.leak;
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            let (x, mean) = (io.input::<T>(0)?, io.input::<T>(1)?);
            let (scale, shift) = (io.input::<T>(2)?, io.input::<T>(3)?);
            scale_shift_leaky::cpu(cpu, &shape, leak, x, mean, scale, shift, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        let shape = grouped_or_unsupported(self, &x[0], &self.groups)?;
        let launch = cuda::forward(gpu, float(&x[0]), &shape, x[1].rank() == 1, self.leak)?;
        cuda_launch(gpu, x, y, launch)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let &[x, mean, scale, shift] = &node.inputs[..] else { return Ok(Vec::new()) };
        let dx = want.accumulate(0, |add| {
            let op = ScaleShiftLeakyGrad { forward: self.clone(), add: add.is_some(), stats: false };
            let inputs: Vec<Var> = [x, dy, mean, scale, shift].into_iter().chain(add).collect();
            t.one(op, &inputs)
        })?;
        if !(want.needs(1) || want.needs(2) || want.needs(3)) {
            return Ok(vec![dx]);
        }
        let sums = t.record(ScaleShiftLeakyReduce { forward: self.clone() }, &[x, dy, mean, scale, shift])?;
        let mut grads = vec![dx];
        grads.extend(coefficients(t, [mean, scale], [sums[0], sums[1]], want, 1)?);
        Ok(grads)
    }
}

/// The gradients of mean, scale and shift, which are inputs `at`, `at` + 1 and `at` + 2, from the sums dscale[G, C] and
/// dshift[G, C] of [`ScaleShiftLeakyReduce`].
pub(crate) fn coefficients(
    t: &mut Tape,
    [mean, scale]: [Var; 2],
    [dscale, dshift]: [Var; 2],
    want: &GradRequest,
    at: usize,
) -> Result<[Grad; 3]> {
    let shared = t.spec(mean)?.rank() == 1;
    let groups = |t: &mut Tape, v: Var| if shared { t.one(SumRows, &[v]) } else { Ok(v) };
    let (dscale, dshift) = (groups(t, dscale)?, groups(t, dshift)?);
    let dmean = want.add(at, || {
        let product = t.one(Mul, &[scale, dshift])?;
        t.one(Axpby { a: -1.0, b: 0.0 }, &[product])
    })?;
    let dscale = want.add(at + 1, || Ok(dscale))?;
    let dshift = want.add(at + 2, || if shared { Ok(dshift) } else { t.one(SumRows, &[dshift]) })?;
    Ok([dmean, dscale, dshift])
}

/// The gradient of x. Inputs: x, dy, mean, scale, shift; if `add` a tensor of the shape of x to add; if `stats` the gradients
/// of mean and variance.
#[derive(Clone, Debug)]
pub struct ScaleShiftLeakyGrad {
    /// The forward op.
    pub forward: ScaleShiftLeaky,
    /// Whether there is a tensor to add to the gradient.
    pub add: bool,
    /// Whether to include the gradient through the batch statistics.
    pub stats: bool,
}

impl ScaleShiftLeakyGrad {
    /// If `v` is the output of this op for `x` normalised by `mean` in the same groups: the op that also includes the gradient
    /// through the statistics, and its inputs but the last two (the gradients of mean and variance).
    pub(crate) fn with_stats(
        t: &Tape,
        v: Var,
        x: Var,
        mean: Var,
        groups: &[usize],
    ) -> Option<(Self, Vec<Var>)> {
        let node = t.producer(v)?;
        let op: &dyn Any = &*node.op;
        let op = op.downcast_ref::<Self>()?;
        let same = !op.stats && node.inputs[0] == x && node.inputs[2] == mean && op.forward.groups == groups;
        same.then(|| (Self { stats: true, ..op.clone() }, node.inputs.clone()))
    }
}

impl Op for ScaleShiftLeakyGrad {
    fn name(&self) -> &'static str {
        if self.stats { "bn_leaky_grad" } else { "scale_shift_leaky_grad" }
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        let n = 5 + usize::from(self.add) + 2 * usize::from(self.stats);
        check_inputs_bf16(x, n..=n, &[], |i| i < 2 || (self.add && i == 5))?;
        self.forward.fits(&[x[0], x[2], x[3], x[4]])?;
        ensure!(
            x[1] == x[0] && (!self.add || x[5] == x[0]),
            "dy or the tensor to add differs in shape or type from x"
        );
        ensure!(
            !self.stats || (x[n - 2] == x[2] && x[n - 1] == x[2] && x[2].rank() == 2),
            "statistics do not fit"
        );
        Ok(vec![x[0]])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        8 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let Ok(shape) = grouped(&x[0], &self.forward.groups) else {
            return cpu_kernel(cpu, 0, |_, _| Ok(()));
        };
        let (leak, add, stats, n) = (self.forward.leak, self.add, self.stats, x.len());
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            let args = GradArgs::<T> {
                x: io.input(0)?,
                dy: io.input(1)?,
                mean: io.input(2)?,
                scale: io.input(3)?,
                shift: io.input(4)?,
                stats: if stats { Some((io.input(n - 2)?, io.input(n - 1)?)) } else { None },
                add: if add { Some(io.input(5)?) } else { None },
            };
            scale_shift_leaky::grad_cpu(cpu, &shape, leak, &args, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> Result<Prepared> {
        let shape = grouped_or_unsupported(self, &x[0], &self.forward.groups)?;
        let (add, stats, n) = (self.add, self.stats, x.len());
        let shared = x[2].rank() == 1;
        let launch = cuda::grad(gpu, float(&x[0]), &shape, shared, stats, self.forward.leak)?;
        cuda_kernel(gpu, 0, move |gpu, io| {
            let mut spans =
                (0..5).map(|i| io.gpu_input(i).map(Some)).collect::<core::result::Result<Vec<_>, _>>()?;
            if stats {
                spans.extend([Some(io.gpu_input(n - 2)?), Some(io.gpu_input(n - 1)?)]);
            }
            spans.push(if add { Some(io.gpu_input(5)?) } else { None });
            spans.push(Some(io.gpu_output(0)?));
            Ok(launch.run(gpu, &spans)?)
        })
    }
}

/// dscale[G, C] = Σ dz·(x − mean) and dshift[G, C] = Σ dz, from x, dy, mean, scale, shift; dz = leaky_relu'(z)·dy.
#[derive(Clone, Debug)]
pub struct ScaleShiftLeakyReduce {
    /// The forward op.
    pub forward: ScaleShiftLeaky,
}

impl Op for ScaleShiftLeakyReduce {
    fn name(&self) -> &'static str {
        "scale_shift_leaky_reduce"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 5..=5, &[], |i| i < 2)?;
        self.forward.fits(&[x[0], x[2], x[3], x[4]])?;
        ensure!(x[1] == x[0], "dy differs in shape or type from x");
        let sums = x[0].wide().with_shape(&[self.forward.groups.len(), x[0].last()]);
        Ok(vec![sums, sums])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        7 * x[0].len() as u64
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        GpuWork::own(2, self.bytes(x, y))
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let Ok(shape) = grouped(&x[0], &self.forward.groups) else {
            return cpu_kernel(cpu, 0, |_, _| Ok(()));
        };
        let reduce = Reduce::new(shape, self.forward.leak);
        let ws = reduce.workspace() * x[0].dtype.size();
        real!(x[0], T => cpu_kernel(cpu, ws, move |cpu, io| {
            let coeffs = (io.input::<T>(2)?, io.input::<T>(3)?, io.input::<T>(4)?);
            let (dscale, dshift) = (io.output::<T>(0)?, io.output::<T>(1)?);
            reduce.run(cpu, io.input::<T>(0)?, io.input::<T>(1)?, coeffs, dscale, dshift, io.workspace::<T>()?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> Result<Prepared> {
        let shape = grouped_or_unsupported(self, &x[0], &self.forward.groups)?;
        let reduce = cuda::Reduce::new(gpu, float(&x[0]), &shape, x[2].rank() == 1, self.forward.leak)?;
        cuda_kernel(gpu, reduce.workspace(), move |gpu, io| {
            let from = cuda::Inputs {
                x: io.gpu_input(0)?,
                dy: io.gpu_input(1)?,
                mean: io.gpu_input(2)?,
                scale: io.gpu_input(3)?,
                shift: io.gpu_input(4)?,
            };
            Ok(reduce.run(gpu, from, (io.gpu_output(0)?, io.gpu_output(1)?), io.gpu_workspace()?)?)
        })
    }
}

pub(super) fn cases() -> Cases {
    let x: &[usize] = &[5, 3, 2, 7];
    let (gc, c): (&[usize], &[usize]) = (&[2, 7], &[7]);
    let op = ScaleShiftLeaky { groups: vec![2, 3], leak: 0.2 };
    let go = move |t: &mut Tape, x: &[Var]| t.record(op.clone(), x);
    let big = |groups: &'static [usize]| {
        let op = ScaleShiftLeaky { groups: groups.to_vec(), leak: 0.2 };
        move |t: &mut Tape, v: &[Var]| t.record(op.clone(), v)
    };
    let mut bench = Vec::new();
    for (n, h, ch) in [(192, 32, 32), (192, 8, 128), (192, 8, 16), (192, 32, 160)] {
        let (x, gc, c): (&[usize], &[usize], &[usize]) = (&[n, h, h, ch], &[3, ch], &[ch]);
        let inputs = [(x, F::Normal), (gc, F::Normal), (gc, F::Positive), (c, F::Normal)];
        bench.push(Case::new(format!("{h}×{h}×{ch}"), &inputs, big(&[64, 64, 64])).bf16(&[0]));
        let forward = ScaleShiftLeaky { groups: vec![64; 3], leak: 0.2 };
        let mut inputs = [&inputs[..1], &inputs].concat();
        let sums = ScaleShiftLeakyReduce { forward: forward.clone() };
        bench.push(
            Case::new(format!("sums {h}×{h}×{ch}"), &inputs, move |t, v| t.record(sums.clone(), v))
                .bf16(&[0, 1]),
        );
        inputs.extend([(gc, F::Normal), (gc, F::Normal)]);
        let grad = ScaleShiftLeakyGrad { forward, add: false, stats: true };
        bench.push(
            Case::new(format!("grad {h}×{h}×{ch}"), &inputs, move |t, v| t.record(grad.clone(), v))
                .bf16(&[0, 1]),
        );
    }
    Cases {
        small: vec![
            Case::new(
                "groups",
                &[(x, F::Normal), (gc, F::Normal), (gc, F::Normal), (c, F::Normal)],
                go.clone(),
            )
            .bf16(&[0]),
            Case::new(
                "shared",
                &[(x, F::Normal), (c, F::Normal), (c, F::Normal), (c, F::Normal)],
                go.clone(),
            )
            .bf16(&[0]),
        ],
        invalid: vec![
            Case::new(
                "mean",
                &[(x, F::Normal), (&[3, 7], F::Normal), (gc, F::Normal), (c, F::Normal)],
                go.clone(),
            ),
            Case::new("shift", &[(x, F::Normal), (gc, F::Normal), (gc, F::Normal), (&[6], F::Normal)], go),
        ],
        bench,
    }
}
