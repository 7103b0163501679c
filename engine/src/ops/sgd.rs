//! SGD with momentum and weight decay.

use crate::case::{Case, Cases, FillWith as F};
use crate::op::{Op, Prepared, check_inputs, cpu_kernel, cuda_launch, ensure, real};
use crate::spec::{DType, Spec};
use crate::tape::{Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use std::sync::Arc;

/// New weight and velocity. Inputs: weight, velocity, gradient and learning rate (one value). Outputs: weight and velocity,
/// and with `copy` the new weight in bf16. Not differentiable.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// Momentum μ.
    pub momentum: f64,
    /// Weight decay λ.
    pub weight_decay: f64,
    /// Whether a bf16 copy of the new weight is the third output.
    pub copy: bool,
}

impl Op for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        check_inputs(x, 4..=4, &[])?;
        ensure!(x[1] == x[0] && x[2] == x[0], "weight, velocity and gradient differ");
        ensure!(x[3].len() == 1, "the learning rate must be one value, got {}", x[3]);
        ensure!(!self.copy || x[0].dtype == DType::F32, "the bf16 copy needs f32 weights, not {}", x[0]);
        Ok([x[0], x[0]].into_iter().chain(self.copy.then(|| x[0].with_dtype(DType::BF16))).collect())
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        6 * x[0].len() as u64
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        &[(0, 0), (1, 1)]
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let op = *self;
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            let (w, v) = (io.input_or_place::<T>(0, 0)?, io.input_or_place::<T>(1, 1)?);
            let (g, lr) = (io.input::<T>(2)?, io.input::<T>(3)?[0]);
            let (w_out, v_out) = (io.output::<T>(0)?, io.output::<T>(1)?);
            kernels::ops::sgd::cpu(cpu, op.momentum, op.weight_decay, w, v, g, lr, w_out, v_out);
            if op.copy {
                // The engine rounds it to bf16.
                io.output::<T>(2)?.copy_from_slice(w_out);
            }
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], y: &[Spec]) -> crate::error::Result<Prepared> {
        let step =
            kernels::ops::sgd::cuda::step(gpu, self.momentum, self.weight_decay, self.copy, x[0].len());
        cuda_launch(gpu, x, y, step?)
    }
}

pub(super) fn cases() -> Cases {
    let op = |copy| Sgd { momentum: 0.9, weight_decay: 4e-4, copy };
    let go = move |t: &mut Tape, x: &[Var]| t.record(op(false), x);
    let case = |name: &str, s: &[usize]| {
        Case::new(name, &[(s, F::Fixed), (s, F::Fixed), (s, F::Fixed), (&[], F::Fixed)], go)
    };
    Cases {
        small: vec![case("step", &[5, 3, 3, 7])],
        invalid: vec![Case::new(
            "gradient",
            &[(&[5], F::Fixed), (&[5], F::Fixed), (&[6], F::Fixed), (&[], F::Fixed)],
            go,
        )],
        bench: vec![case("step", &[640, 3, 3, 640])],
    }
}
