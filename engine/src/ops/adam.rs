//! The Adam optimiser (Kingma and Ba, 2015).

use super::counter::Advance;
use super::elementwise::Mul;
use crate::case::{Case, Cases, FillWith as F};
use crate::op::{Op, Prepared, check_inputs, cpu_kernel, cuda_launch, ensure, real};
use crate::spec::{DType, Spec};
use crate::tape::{Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
pub use kernels::ops::adam::Args;
use std::sync::Arc;

/// New weight and moments. Inputs: weight, first moment, second moment, gradient, learning rate (one value) and the number of
/// steps done before (`i32[1]`, which [`Advance`] increments). Outputs: weight and both moments. Not differentiable.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    /// Decay rates, ε and weight decay.
    pub args: Args,
    /// Whether a bf16 copy of the new weight is the fourth output.
    pub copy: bool,
}

impl Op for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        check_inputs(x, 6..=6, &[5])?;
        ensure!(x[1..4].iter().all(|s| *s == x[0]), "weight, moments and gradient differ");
        ensure!(x[4].len() == 1, "the learning rate must be one value, got {}", x[4]);
        ensure!(x[5].len() == 1, "the number of steps must be one value, got {}", x[5]);
        ensure!(!self.copy || x[0].dtype == DType::F32, "the bf16 copy needs f32 weights, not {}", x[0]);
        Ok([x[0]; 3].into_iter().chain(self.copy.then(|| x[0].with_dtype(DType::BF16))).collect())
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        15 * x[0].len() as u64
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        &[(0, 0), (1, 1), (2, 2)]
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let op = *self;
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            let old = [io.input_or_place::<T>(0, 0)?, io.input_or_place(1, 1)?, io.input_or_place(2, 2)?];
            let (g, lr, done) = (io.input::<T>(3)?, io.input::<T>(4)?[0], io.input::<i32>(5)?[0]);
            let (w, m, v) = (io.output::<T>(0)?, io.output(1)?, io.output(2)?);
            kernels::ops::adam::cpu(cpu, op.args, old, g, lr, done, [&mut *w, m, v]);
            if op.copy {
                // The engine rounds it to bf16.
                io.output::<T>(3)?.copy_from_slice(w);
            }
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> crate::error::Result<Prepared> {
        cuda_launch(gpu, x, y, kernels::ops::adam::cuda::step(gpu, self.args, self.copy, x[0].len())?)
    }
}

pub(super) fn cases() -> Cases {
    let args = Args { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 4e-4 };
    let step = move |t: &mut Tape, x: &[Var]| {
        // A second moment is not negative.
        let second = t.one(Mul, &[x[2], x[2]])?;
        t.record(Adam { args, copy: false }, &[x[0], x[1], second, x[3], x[4], x[5]])
    };
    let two = move |t: &mut Tape, x: &[Var]| {
        let a = step(t, x)?;
        let done = t.one(Advance { by: 1 }, &[x[5]])?;
        t.record(Adam { args, copy: false }, &[a[0], a[1], a[2], x[3], x[4], done])
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
