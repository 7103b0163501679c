//! Random tensors: uniform or normal, by Philox, element by element.

use crate::case::{Case, Cases, FillWith as F};
use crate::op::{Op, Prepared, check_inputs, cpu_kernel, cuda_launch, ensure, real};
use crate::rng::Stream;
use crate::spec::{DType, Spec};
use crate::tape::{Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::memory::{Io, MemoryError};
pub use kernels::ops::noise::Distribution;
use kernels::ops::noise::RandomSequence;
use std::sync::Arc;

/// Checks a seed (i32[2]: the words of the 64-bit seed) and a step (i32[1]).
pub(crate) fn seed_and_step(seed: &Spec, step: &Spec) -> Result<(), String> {
    ensure!(seed.dtype == DType::I32 && seed.shape() == [2], "the seed must be i32[2], got {seed}");
    ensure!(step.dtype == DType::I32 && step.len() == 1, "the step must be one i32, got {step}");
    Ok(())
}

/// The random sequence given by inputs `seed` (the seed) and `seed` + 1 (the step).
pub(crate) fn sequence(io: &Io<'_>, seed: usize, stream: Stream) -> Result<RandomSequence, MemoryError> {
    let (key, step) = (io.input::<i32>(seed)?, io.input::<i32>(seed + 1)?);
    Ok(RandomSequence { key: [key[0] as u32, key[1] as u32], stream: stream.number(), step: step[0] as u32 })
}

/// The two words of a seed, as ops take them: an input of type `i32[2]`.
pub fn seed_words(seed: u64) -> [i32; 2] {
    [seed as u32 as i32, (seed >> 32) as u32 as i32]
}

/// A tensor of random values. Inputs: seed `i32[2]`, step `i32[1]`.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// Spec of the result; float32 or float64.
    pub spec: Spec,
    /// The distribution of its elements.
    pub distribution: Distribution,
    /// The stream that it is drawn from.
    pub stream: Stream,
}

impl Op for Noise {
    fn name(&self) -> &'static str {
        "noise"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        check_inputs(x, 2..=2, &[0, 1])?;
        seed_and_step(&x[0], &x[1])?;
        let wide = self.spec.dtype.is_real() && self.spec.dtype != DType::BF16;
        ensure!(wide, "draws f32 or f64, not {}", self.spec);
        Ok(vec![self.spec])
    }
    fn flops(&self, _: &[Spec], y: &[Spec]) -> u64 {
        40 * y[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, _: &[Spec], _: &[Spec]) -> Prepared {
        let op = *self;
        real!(self.spec, T => cpu_kernel(cpu, 0, move |cpu, io| {
            let sequence = sequence(io, 0, op.stream)?;
            kernels::ops::noise::cpu(cpu, sequence, op.distribution, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> crate::error::Result<Prepared> {
        let launch =
            kernels::ops::noise::cuda::fill(gpu, self.distribution, self.stream.number(), y[0].len())?;
        cuda_launch(gpu, x, y, launch)
    }
}

pub(super) fn cases() -> Cases {
    let draw = |shape: &[usize], distribution| {
        let spec = Spec::f32(shape);
        move |t: &mut Tape, x: &[Var]| t.record(Noise { spec, distribution, stream: Stream::TEST }, x)
    };
    let seed = (&[2usize][..], F::Ints(vec![7, -3]));
    let step = (&[1usize][..], F::Ints(vec![5]));
    Cases {
        small: vec![
            Case::new("normal", &[seed.clone(), step.clone()], draw(&[3, 5, 7], Distribution::Normal)),
            Case::new("uniform", &[seed.clone(), step.clone()], draw(&[2, 9], Distribution::Uniform)),
        ],
        invalid: vec![Case::new("seed", &[step.clone(), step.clone()], draw(&[3], Distribution::Normal))],
        bench: vec![Case::new("normal", &[seed, step], draw(&[64, 32, 32, 3], Distribution::Normal))],
    }
}
