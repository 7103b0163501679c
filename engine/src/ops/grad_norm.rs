//! The joint norm of all gradients, clipping by it, and the perturbation of adaptive sharpness-aware minimisation.

use crate::case::{Case, Cases, FillWith as F};
use crate::op::{GpuWork, Op, Prepared, check_inputs, cpu_kernel, cuda_kernel, cuda_launch, ensure, real};
use crate::spec::{DType, Spec};
use crate::tape::{Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::memory::MemoryError;
use kernels::ops::grad_norm;
use std::sync::Arc;

/// Σ g² of a gradient g, or with a second input, its weight w of the same spec, Σ (w·g)²: a scalar, summed in float64. Not
/// differentiable.
#[derive(Clone, Copy, Debug)]
pub struct SumSquares;

impl Op for SumSquares {
    fn name(&self) -> &'static str {
        "sum_squares"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        check_inputs(x, 1..=2, &[])?;
        ensure!(x.len() == 1 || x[1] == x[0], "gradient and weight differ");
        Ok(vec![x[0].with_shape(&[])])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        (x.len() as u64 + 1) * x[0].len() as u64
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        GpuWork::own(2, self.bytes(x, y))
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let weighted = x.len() > 1;
        let workspace = grad_norm::parts(x[0].len()) * size_of::<f64>();
        real!(x[0], T => cpu_kernel(cpu, workspace, move |cpu, io| {
            let w = if weighted { Some(io.input::<T>(1)?) } else { None };
            let sum = grad_norm::sum_squares(cpu, io.input::<T>(0)?, w, io.workspace::<f64>()?);
            io.output::<T>(0)?[0] = sum;
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> crate::error::Result<Prepared> {
        let n = x.len();
        let sum = grad_norm::cuda::SumSquares::new(gpu, n > 1, x[0].len())?;
        cuda_kernel(gpu, sum.workspace(), move |gpu, io| {
            let inputs = (0..n).map(|i| io.gpu_input(i)).collect::<Result<Vec<_>, MemoryError>>()?;
            Ok(sum.run(gpu, &inputs, io.gpu_output(0)?, io.gpu_workspace()?)?)
        })
    }
}

/// g·min(1, max/(√s + 1e-6)) of a gradient g and the scalar s, the sum of squares of all gradients, as
/// `torch.nn.utils.clip_grad_norm_`. Not differentiable.
#[derive(Clone, Copy, Debug)]
pub struct ClipByNorm {
    /// The largest joint norm that is left alone.
    pub max: f64,
}

impl Op for ClipByNorm {
    fn name(&self) -> &'static str {
        "clip_by_norm"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        check_inputs(x, 2..=2, &[])?;
        ensure!(x[1].len() == 1, "the sum of squares must be one value, got {}", x[1]);
        Ok(vec![x[0]])
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        &[(0, 0)]
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let max = self.max;
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            let (g, s) = (io.input_or_place::<T>(0, 0)?, io.input::<T>(1)?[0]);
            grad_norm::clip(cpu, max, g, s, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> crate::error::Result<Prepared> {
        cuda_launch(gpu, x, y, grad_norm::cuda::clip(gpu, self.max, x[0].len())?)
    }
}

/// The weight at which ASAM (Kwon et al., 2021) takes its second gradient: w + ρ·w²·g/(√s + 1e-12), from the weight w, its
/// gradient g and the scalar s, Σ (w·g)² over all parameters. Outputs: that weight, and with `copy` the same in bf16. Not
/// differentiable.
#[derive(Clone, Copy, Debug)]
pub struct SamPerturb {
    /// The radius ρ.
    pub rho: f64,
    /// Whether a bf16 copy of the weight is the second output.
    pub copy: bool,
}

impl Op for SamPerturb {
    fn name(&self) -> &'static str {
        "sam_perturb"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        check_inputs(x, 3..=3, &[])?;
        ensure!(x[1] == x[0], "weight and gradient differ");
        ensure!(x[2].len() == 1, "the sum of squares must be one value, got {}", x[2]);
        ensure!(!self.copy || x[0].dtype == DType::F32, "the bf16 copy needs f32 weights, not {}", x[0]);
        Ok([x[0]].into_iter().chain(self.copy.then(|| x[0].with_dtype(DType::BF16))).collect())
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        4 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let op = *self;
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            let (w, g, s) = (io.input::<T>(0)?, io.input::<T>(1)?, io.input::<T>(2)?[0]);
            let out = io.output::<T>(0)?;
            grad_norm::perturb(cpu, op.rho, w, g, s, out);
            if op.copy {
                // The engine rounds it to bf16.
                io.output::<T>(1)?.copy_from_slice(out);
            }
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> crate::error::Result<Prepared> {
        cuda_launch(gpu, x, y, grad_norm::cuda::perturb(gpu, self.rho, self.copy, x[0].len())?)
    }
}

pub(super) fn cases() -> Cases {
    let norm = |t: &mut Tape, x: &[Var]| t.record(SumSquares, x);
    let clip = |t: &mut Tape, x: &[Var]| {
        let s = t.one(SumSquares, &x[..1])?;
        t.record(ClipByNorm { max: 0.5 }, &[x[0], s])
    };
    let perturb = |t: &mut Tape, x: &[Var]| {
        let s = t.one(SumSquares, &[x[1], x[0]])?;
        t.record(SamPerturb { rho: 2.0, copy: false }, &[x[0], x[1], s])
    };
    let fixed = |shapes: &[&'static [usize]]| shapes.iter().map(|s| (*s, F::Fixed)).collect::<Vec<_>>();
    let [small, long, big]: [&'static [usize]; 3] = [&[5, 3, 3, 7], &[9001], &[640, 3, 3, 640]];
    Cases {
        small: vec![
            Case::new("norm", &fixed(&[long]), norm),
            Case::new("weighted", &fixed(&[small, small]), norm),
            Case::new("clip", &fixed(&[small]), clip),
            Case::new("within", &fixed(&[&[3]]), |t, x| {
                let s = t.one(SumSquares, x)?;
                t.record(ClipByNorm { max: 1e3 }, &[x[0], s])
            }),
            Case::new("perturb", &fixed(&[long, long]), perturb),
        ],
        invalid: vec![
            Case::new("weight", &fixed(&[small, long]), norm),
            Case::new("no sum", &fixed(&[small, small]), |t, x| t.record(ClipByNorm { max: 1.0 }, x)),
            Case::new("gradient", &fixed(&[small, long, &[]]), |t, x| {
                t.record(SamPerturb { rho: 1.0, copy: false }, x)
            }),
        ],
        bench: vec![
            Case::new("norm", &fixed(&[big]), norm),
            Case::new("perturb", &fixed(&[big, big]), perturb),
        ],
    }
}
