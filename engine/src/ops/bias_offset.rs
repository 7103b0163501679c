//! What a residual stream lacks if convolutions leave out their biases.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{Op, Prepared, check_inputs_bf16, cpu_kernel, cuda_launch, ensure, float, real};
use crate::spec::Spec;
use crate::tape::{Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::bias_offset;
use std::sync::Arc;

/// bias + before, `[C]` each; with a shortcut, bias + (its bias + its 1×1 filters applied to before). Inputs: before, bias; with
/// `shortcut` filters K×1×1×C, which may be bf16, and their bias `[K]`. Not differentiable.
#[derive(Clone, Copy, Debug)]
pub struct BiasOffset {
    /// Whether there are filters in between.
    pub shortcut: bool,
}

impl Op for BiasOffset {
    fn name(&self) -> &'static str {
        "bias_offset"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        let n = if self.shortcut { 4 } else { 2 };
        check_inputs_bf16(x, n..=n, &[], |i| i == 2)?;
        ensure!(x[0].rank() == 1 && x[1].rank() == 1, "{} and {} are not one value per channel", x[0], x[1]);
        let (c, k) = (x[0].len(), x[1].len());
        if self.shortcut {
            ensure!(x[2].shape() == [k, 1, 1, c], "filters {} do not lead from {c} channels to {k}", x[2]);
            ensure!(x[3] == x[1], "the biases {} and {} differ in shape", x[3], x[1]);
        } else {
            ensure!(c == k, "{} and {} differ in shape", x[0], x[1]);
        }
        Ok(vec![x[1]])
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        if self.shortcut { 2 * x[2].len() as u64 } else { x[1].len() as u64 }
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let shortcut = self.shortcut;
        real!(x[0], T => cpu_kernel(cpu, 0, move |_, io| {
            let by = if shortcut { Some((io.input::<T>(2)?, io.input::<T>(3)?)) } else { None };
            bias_offset::cpu::<T>(io.input(0)?, io.input(1)?, by, io.output(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        let filters = x.get(2).map_or(float(&x[0]), float);
        cuda_launch(
            gpu,
            x,
            y,
            bias_offset::cuda::offset(gpu, filters, (x[0].len(), x[1].len()), self.shortcut)?,
        )
    }
}

pub(super) fn cases() -> Cases {
    let go = |shortcut| move |t: &mut Tape, x: &[Var]| t.record(BiasOffset { shortcut }, x);
    let by = |c: usize, k: usize| {
        let inputs: [(&[usize], F); 4] =
            [(&[c], F::Fixed), (&[k], F::Fixed), (&[k, 1, 1, c], F::Fixed), (&[k], F::Fixed)];
        Case::new(format!("shortcut {c}→{k}"), &inputs, go(true)).bf16(&[2])
    };
    Cases {
        small: vec![Case::new("sum", &[(&[7], F::Fixed), (&[7], F::Fixed)], go(false)), by(5, 7), by(67, 3)],
        invalid: vec![Case::new("channels", &[(&[7], F::Fixed), (&[6], F::Fixed)], go(false))],
        bench: vec![by(320, 640)],
    }
}
