//! One outer step of proximal YOPO-SGLD (PYLD), the sampler of JEM++.

use super::noise::{seed_and_step, sequence};
use crate::case::{Case, Cases, FillWith as F};
use crate::op::{Op, Prepared, check_inputs_bf16, cpu_kernel, cuda_launch, ensure, float, real};
use crate::rng::Stream;
use crate::spec::Spec;
use crate::tape::{Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
pub use kernels::ops::pyld_step::Args;
use std::sync::Arc;

/// x' from x and g = ∂f/∂x, which may be bf16; if there is noise also from seed `i32[2]` and step `i32[1]`. Not
/// differentiable.
#[derive(Clone, Copy, Debug)]
pub struct PyldStep {
    /// Step sizes, clipping and noise.
    pub args: Args,
    /// The stream that the noise is drawn from.
    pub stream: Stream,
}

impl Op for PyldStep {
    fn name(&self) -> &'static str {
        "pyld_step"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        let n = if self.args.noise > 0.0 { 4 } else { 2 };
        check_inputs_bf16(x, n..=n, &[2, 3], |i| i == 1)?;
        ensure!(x[0] == x[1].wide(), "x and its gradient differ");
        if n == 4 {
            seed_and_step(&x[2], &x[3])?;
        }
        Ok(vec![x[0]])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        8 * x[0].len() as u64
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        &[(0, 0)]
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let op = *self;
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            let at = if op.args.noise > 0.0 { Some(sequence(io, 2, op.stream)?) } else { None };
            let (x, g) = (io.input_or_place::<T>(0, 0)?, io.input::<T>(1)?);
            kernels::ops::pyld_step::cpu(cpu, op.args, x, g, at, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> crate::error::Result<Prepared> {
        let launch = kernels::ops::pyld_step::cuda::step(
            gpu,
            float(&x[1]),
            self.args,
            self.stream.number(),
            y[0].len(),
        )?;
        cuda_launch(gpu, x, y, launch)
    }
}

pub(super) fn cases() -> Cases {
    let quiet = Args {
        inner: 5,
        step_size: 0.2,
        clip: 1.0,
        boxed: true,
        sgld_lr: 0.0,
        noise: 0.0,
        clip_after_noise: false,
    };
    let noisy = Args { sgld_lr: 0.3, noise: 0.05, ..quiet };
    let sgld = Args { inner: 1, step_size: 1.0, clip: 0.0, boxed: false, noise: 0.01, ..quiet };
    let go = |args: Args| move |t: &mut Tape, x: &[Var]| t.record(PyldStep { args, stream: Stream::TEST }, x);
    let (x, big): (&[usize], &[usize]) = (&[3, 5, 7, 3], &[64, 32, 32, 3]);
    let at = [(&[2usize][..], F::Ints(vec![1, 2])), (&[1usize][..], F::Ints(vec![3]))];
    let [seed, step] = at;
    Cases {
        small: vec![
            Case::new("quiet", &[(x, F::Fixed), (x, F::Fixed)], go(quiet)).bf16(&[1]),
            Case::new("noisy", &[(x, F::Fixed), (x, F::Fixed), seed.clone(), step.clone()], go(noisy))
                .bf16(&[1]),
            Case::new("sgld", &[(x, F::Fixed), (x, F::Fixed), seed.clone(), step.clone()], go(sgld))
                .bf16(&[1]),
        ],
        invalid: vec![
            Case::new("shapes", &[(x, F::Fixed), (&[3, 5], F::Fixed)], go(quiet)),
            Case::new("no seed", &[(x, F::Fixed), (x, F::Fixed)], go(noisy)),
        ],
        bench: vec![
            Case::new("quiet", &[(big, F::Fixed), (big, F::Fixed)], go(quiet)).bf16(&[1]),
            Case::new("noisy", &[(big, F::Fixed), (big, F::Fixed), seed, step], go(noisy)).bf16(&[1]),
        ],
    }
}
