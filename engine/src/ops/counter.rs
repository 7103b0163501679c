//! Counters in the state, which programs increment.

use crate::case::{Case, Cases, FillWith as F};
use crate::op::{Op, Prepared, cpu_kernel, cuda_launch, ensure};
use crate::spec::{DType, Spec};
use crate::tape::{Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::counter;
use std::sync::Arc;

/// x + by for int32 x of any shape, wrapping on overflow. Not differentiable.
#[derive(Clone, Copy, Debug)]
pub struct Advance {
    /// The increment.
    pub by: i32,
}

impl Op for Advance {
    fn name(&self) -> &'static str {
        "advance"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        ensure!(x.len() == 1, "takes 1 input, got {}", x.len());
        ensure!(x[0].dtype == DType::I32, "needs i32, got {}", x[0]);
        Ok(vec![x[0]])
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        &[(0, 0)]
    }
    fn cpu(&self, cpu: &Arc<Cpu>, _: &[Spec], _: &[Spec]) -> Prepared {
        let by = self.by;
        cpu_kernel(cpu, 0, move |_, io| {
            match io.input_or_place::<i32>(0, 0)? {
                Some(x) => counter::cpu(x, by, io.output(0)?),
                None => counter::in_place(by, io.output(0)?),
            }
            Ok(())
        })
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> crate::error::Result<Prepared> {
        cuda_launch(gpu, x, y, counter::cuda::advance(gpu, x[0].len(), self.by)?)
    }
}

pub(super) fn cases() -> Cases {
    let advance = |t: &mut Tape, x: &[Var]| t.record(Advance { by: 3 }, x);
    Cases {
        small: vec![Case::new("advance", &[(&[3], F::Ints(vec![7, -9, i32::MAX]))], advance)],
        invalid: vec![Case::new("advance", &[(&[3], F::Normal)], advance)],
        bench: vec![Case::new("advance", &[(&[1], F::Ints(vec![5]))], advance)],
    }
}
