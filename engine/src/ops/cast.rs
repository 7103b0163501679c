//! Conversion between float32 and bf16, to nearest, ties to even.

use crate::case::{Case, Cases, FillWith as F};
use crate::error::Result;
use crate::op::{
    Grad, GradRequest, Op, Prepared, check_inputs_bf16, cpu_kernel, cuda_kernel, cuda_launch, ensure, real,
};
use crate::spec::{DType, Spec};
use crate::tape::{Node, Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::cast;
use std::sync::Arc;

/// x converted from float32 to bf16, from bf16 to float32, or copied if it has the type already.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// Element type of the output.
    pub to: DType,
}

/// `v` converted to the type `to`; `v` itself if it has that type.
pub(crate) fn like(t: &mut Tape, v: Var, to: DType) -> Result<Var> {
    if t.spec(v)?.dtype == to { Ok(v) } else { t.one(Cast { to }, &[v]) }
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }
    fn infer(&self, x: &[Spec]) -> core::result::Result<Vec<Spec>, String> {
        check_inputs_bf16(x, 1..=1, &[], |_| true)?;
        ensure!(
            self.to.wide() == x[0].dtype.wide(),
            "converts between f32 and bf16, not from {} to {}",
            x[0],
            self.to
        );
        Ok(vec![x[0].with_dtype(self.to)])
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        // The engine rounds bf16 outputs.
        real!(x[0], T => cpu_kernel(cpu, 0, |_, io| {
            io.output::<T>(0)?.copy_from_slice(io.input::<T>(0)?);
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> Result<Prepared> {
        let n = y[0].len();
        match (x[0].dtype, self.to) {
            (DType::F32, DType::BF16) => cuda_launch(gpu, x, y, cast::cuda::to_bf16(gpu, n)?),
            (DType::BF16, DType::F32) => cuda_launch(gpu, x, y, cast::cuda::to_f32(gpu, n)?),
            _ => cuda_kernel(gpu, 0, |gpu, io| Ok(gpu.copy(io.gpu_input(0)?, io.gpu_output(0)?)?)),
        }
    }
    fn vjp(&self, t: &mut Tape, node: &Node, dy: &[Option<Var>], want: &GradRequest) -> Result<Vec<Grad>> {
        let Some(dy) = dy[0] else { return Ok(Vec::new()) };
        let to = t.spec(node.inputs[0])?.dtype;
        Ok(vec![want.add(0, || like(t, dy, to))?])
    }
}

pub(super) fn cases() -> Cases {
    let (s, image): (&[usize], &[usize]) = (&[3, 5, 7, 3], &[192, 32, 32, 3]);
    let narrow = |t: &mut Tape, x: &[Var]| t.record(Cast { to: DType::BF16 }, x);
    // To the accumulation type: of float32 and float64 a copy.
    let widen = |t: &mut Tape, x: &[Var]| {
        let to = t.spec(x[0])?.dtype.wide();
        t.record(Cast { to }, x)
    };
    Cases {
        small: vec![Case::new("widen", &[(s, F::Normal)], widen).bf16(&[0])],
        invalid: vec![Case::new("integers", &[(s, F::Below(3))], narrow)],
        bench: vec![Case::new("images to bf16", &[(image, F::Normal)], narrow)],
    }
}
