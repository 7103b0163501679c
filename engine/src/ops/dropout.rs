//! Inverted dropout. Masks are not stored but drawn again from their position in the random sequence.

use super::noise::{seed_and_step, sequence};
use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{
    Grad, GradRequest, Op, Prepared, check_inputs_bf16, cpu_kernel, cuda_launch, ensure, float, real,
};
use crate::rng::Stream;
use crate::spec::Spec;
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::dropout;
use std::sync::Arc;

/// y = x/(1 − rate) where the uniform drawn for the element is at least the rate, else 0. Inputs: x, which may be bf16; seed
/// `i32[2]`; step `i32[1]`. The gradient is this op applied to dy: the mask is drawn again.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Probability with which an element is dropped, in [0, 1).
    pub rate: f64,
    /// The stream that masks are drawn from.
    pub stream: Stream,
    /// Index of the mask among those drawn in one step: each has its own part of the sequence.
    pub layer: u32,
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 3..=3, &[1, 2], |i| i == 0)?;
        seed_and_step(&x[1], &x[2])?;
        ensure!((0.0..1.0).contains(&self.rate), "the rate {} is not in [0, 1)", self.rate);
        Ok(vec![x[0]])
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        &[(0, 0)]
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        20 * x[0].len() as u64
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let op = *self;
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            let at = sequence(io, 1, op.stream)?;
            let x = io.input_or_place::<T>(0, 0)?;
            dropout::cpu(cpu, at, op.layer, op.rate, x, io.output::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        let launch = dropout::cuda::forward(
            gpu,
            float(&x[0]),
            self.stream.number(),
            self.layer,
            self.rate,
            x[0].len(),
        )?;
        cuda_launch(gpu, x, y, launch)
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let (seed, step) = (node.inputs[1], node.inputs[2]);
        Ok(vec![want.add(0, || t.one(*self, &[dy, seed, step]))?])
    }
}

pub(super) fn cases() -> Cases {
    let dropout = |rate, layer| {
        let op = Dropout { rate, stream: Stream::TEST, layer };
        move |t: &mut Tape, x: &[Var]| t.record(op, x)
    };
    let (seed, step) = ((&[2usize][..], F::Ints(vec![7, -3])), (&[1usize][..], F::Ints(vec![5])));
    let of = |x: &'static [usize]| [(x, F::Normal), seed.clone(), step.clone()];
    Cases {
        small: vec![
            Case::new("a third", &of(&[3, 5, 7, 2]), dropout(0.3, 0)).bf16(&[0]),
            Case::new("another layer", &of(&[2, 9]), dropout(0.5, 3)).bf16(&[0]),
            Case::new("none", &of(&[5]), dropout(0.0, 1)).bf16(&[0]),
        ],
        invalid: vec![
            Case::new("rate", &of(&[3]), dropout(1.0, 0)),
            Case::new("step", &[(&[3], F::Normal), seed.clone(), seed.clone()], dropout(0.3, 0)),
        ],
        bench: vec![Case::new("a third", &of(&[64, 32, 32, 160]), dropout(0.3, 0)).bf16(&[0])],
    }
}
