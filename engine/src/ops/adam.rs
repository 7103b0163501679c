//! The Adam optimiser (Kingma and Ba, 2015), of many tensors at once.

use super::counter::Advance;
use super::elementwise::Mul;
pub use super::updates::Updated;
use super::updates::Updates;
use crate::case::{Case, Cases, FillWith as F};
use crate::op::{GpuWork, Op, Prepared, cpu_kernel, cuda_kernel, ensure, real};
use crate::spec::Spec;
use crate::tape::{Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
pub use kernels::ops::adam::Args;
use kernels::ops::adam::cuda;
use std::sync::Arc;

/// New weights and moments of any number of tensors. Inputs: of each tensor weight, first moment, second moment and, if it has
/// one, the gradient; then the learning rate (one value) and the number of steps done before (`i32[1]`, which [`Advance`]
/// increments). Outputs: of each weight and both moments, and with `copy` the new weight in bf16. Not differentiable.
#[derive(Clone, Debug)]
pub struct Adam {
    args: Args,
    updates: Updates,
}

impl Adam {
    /// With these decay rates, ε and weight decay, of these tensors.
    pub fn new(args: Args, tensors: Vec<Updated>) -> Self {
        Self { args, updates: Updates::new(tensors, 3) }
    }

    /// Of one tensor with a gradient.
    pub fn one(args: Args, copy: bool) -> Self {
        Self::new(args, vec![Updated { gradient: true, more: false, copy }])
    }
}

impl Op for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        ensure!(self.updates.tensors.iter().all(|t| !t.more), "a gradient of two terms");
        let at = self.updates.inputs();
        let out = self.updates.infer(x, 2, &[at + 1])?;
        ensure!(x[at].len() == 1, "the learning rate must be one value, got {}", x[at]);
        ensure!(x[at + 1].len() == 1, "the number of steps must be one value, got {}", x[at + 1]);
        Ok(out)
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        15 * self.updates.len(x)
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        &self.updates.aliases
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        let tensors = self.updates.tensors.len();
        GpuWork::own(cuda::launches(tensors) as u64, self.bytes(x, y))
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let (op, at) = (self.clone(), self.updates.inputs());
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            let (lr, done) = (io.input::<T>(at)?[0], io.input::<i32>(at + 1)?[0]);
            for (t, i, o) in op.updates.places() {
                let old = |k| io.input_or_place::<T>(i + k, o + k);
                let old = [old(0)?, old(1)?, old(2)?];
                let g = if t.gradient { Some(io.input::<T>(i + 3)?) } else { None };
                let (w, m, v) = (io.output::<T>(o)?, io.output(o + 1)?, io.output(o + 2)?);
                kernels::ops::adam::cpu(cpu, op.args, old, g, lr, done, [&mut *w, m, v]);
                if t.copy {
                    // The engine rounds it to bf16.
                    io.output::<T>(o + 3)?.copy_from_slice(w);
                }
            }
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> crate::error::Result<Prepared> {
        let (updates, at) = (self.updates.clone(), self.updates.inputs());
        let step = cuda::Step::new(gpu, self.args, &updates.on_gpu(x))?;
        cuda_kernel(gpu, 0, move |gpu, io| {
            Ok(step.run(gpu, &updates.spans(io)?, io.gpu_input(at)?, io.gpu_input(at + 1)?)?)
        })
    }
}

pub(super) fn cases() -> Cases {
    let args = Args { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 4e-4 };
    let step = move |t: &mut Tape, x: &[Var]| {
        // A second moment is not negative.
        let second = t.one(Mul, &[x[2], x[2]])?;
        t.record(Adam::one(args, false), &[x[0], x[1], second, x[3], x[4], x[5]])
    };
    let two = move |t: &mut Tape, x: &[Var]| {
        let a = step(t, x)?;
        let done = t.one(Advance { by: 1 }, &[x[5]])?;
        t.record(Adam::one(args, false), &[a[0], a[1], a[2], x[3], x[4], done])
    };
    let inputs = |[w, g, lr]: [&'static [usize]; 3], done: F| {
        let real = [w, w, w, g, lr].map(|s| (s, F::Fixed)).into_iter();
        real.chain([(&[1][..], done)]).collect::<Vec<_>>()
    };
    let done = |n| F::Ints(vec![n]);
    let [small, long, big]: [&'static [usize]; 3] = [&[5, 3, 3, 7], &[1031], &[640, 3, 3, 640]];
    Cases {
        small: vec![
            Case::new("first two", &inputs([small, small, &[]], done(0)), two),
            Case::new("later", &inputs([long, long, &[]], done(70_000)), step),
        ],
        invalid: vec![
            Case::new("gradient", &inputs([long, small, &[]], done(0)), step),
            Case::new("rate", &inputs([long, long, &[2]], done(0)), step),
            Case::new("steps", &inputs([long, long, &[]], F::Fixed), step),
        ],
        bench: vec![Case::new("step", &inputs([big, big, &[]], done(9)), step)],
    }
}
