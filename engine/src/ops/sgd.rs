//! SGD with momentum and weight decay, of many tensors at once.

pub use super::updates::Updated;
use super::updates::Updates;
use crate::case::{Case, Cases, FillWith as F};
use crate::op::{GpuWork, Op, Prepared, cpu_kernel, cuda_kernel, ensure, real};
use crate::spec::Spec;
use crate::tape::{Tape, Var};
use kernels::cpu::Cpu;
use kernels::gpu::Gpu;
use kernels::ops::sgd::cuda;
use std::sync::Arc;

/// New weights and velocities of any number of tensors. Inputs: of each tensor weight, velocity and, if it has
/// them, the gradient and a second term of it; then the learning rate (one value). Outputs: of each weight and velocity, and with `copy` the new weight in bf16. Not
/// differentiable.
#[derive(Clone, Debug)]
pub struct Sgd {
    momentum: f64,
    weight_decay: f64,
    updates: Updates,
}

impl Sgd {
    /// With momentum μ and weight decay λ, of these tensors.
    pub fn new(momentum: f64, weight_decay: f64, tensors: Vec<Updated>) -> Self {
        Self { momentum, weight_decay, updates: Updates::new(tensors, 2) }
    }

    /// Of one tensor with a gradient.
    pub fn one(momentum: f64, weight_decay: f64, copy: bool) -> Self {
        Self::new(momentum, weight_decay, vec![Updated { gradient: true, more: false, copy }])
    }
}

impl Op for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }
    fn infer(&self, x: &[Spec]) -> Result<Vec<Spec>, String> {
        let out = self.updates.infer(x, 1, &[])?;
        let lr = &x[x.len() - 1];
        ensure!(lr.len() == 1, "the learning rate must be one value, got {lr}");
        Ok(out)
    }
    fn flops(&self, x: &[Spec], _: &[Spec]) -> u64 {
        6 * self.updates.len(x)
    }
    fn may_alias(&self) -> &[(usize, usize)] {
        &self.updates.aliases
    }
    fn gpu_work(&self, x: &[Spec], y: &[Spec]) -> GpuWork {
        let tensors = self.updates.tensors.len();
        GpuWork::own(cuda::launches(tensors) as u64, self.bytes(x, y))
    }
    fn cpu(&self, cpu: &Arc<Cpu>, x: &[Spec], _: &[Spec]) -> Prepared {
        let (op, last) = (self.clone(), x.len() - 1);
        real!(x[0], T => cpu_kernel(cpu, 0, move |cpu, io| {
            let lr = io.input::<T>(last)?[0];
            for (t, i, o) in op.updates.places() {
                let (w, v) = (io.input_or_place::<T>(i, o)?, io.input_or_place::<T>(i + 1, o + 1)?);
                let g = if t.gradient { Some(io.input::<T>(i + 2)?) } else { None };
                let more = if t.more { Some(io.input::<T>(i + 3)?) } else { None };
                let (w_out, v_out) = (io.output::<T>(o)?, io.output::<T>(o + 1)?);
                kernels::ops::sgd::cpu(cpu, (op.momentum, op.weight_decay), (w, v), [g, more], lr, (w_out, v_out));
                if t.copy {
                    // The engine rounds it to bf16.
                    io.output::<T>(o + 2)?.copy_from_slice(w_out);
                }
            }
            Ok(())
        }))
    }
    fn cuda(&self, gpu: &Arc<Gpu>, x: &[Spec], _: &[Spec]) -> crate::error::Result<Prepared> {
        let (updates, last) = (self.updates.clone(), x.len() - 1);
        let step = cuda::Step::new(gpu, self.momentum, self.weight_decay, &updates.on_gpu(x))?;
        cuda_kernel(gpu, 0, move |gpu, io| Ok(step.run(gpu, &updates.spans(io)?, io.gpu_input(last)?)?))
    }
}

pub(super) fn cases() -> Cases {
    let go = move |t: &mut Tape, x: &[Var]| t.record(Sgd::one(0.9, 4e-4, false), x);
    let case = |name: &str, s: &[usize]| {
        Case::new(name, &[(s, F::Fixed), (s, F::Fixed), (s, F::Fixed), (&[], F::Fixed)], go)
    };
    Cases {
        small: vec![
            case("step", &[5, 3, 3, 7]),
            // The second tensor has no gradient.
            Case::new(
                "two tensors",
                &[
                    (&[5, 3], F::Fixed),
                    (&[5, 3], F::Fixed),
                    (&[5, 3], F::Fixed),
                    (&[4099], F::Fixed),
                    (&[4099], F::Fixed),
                    (&[], F::Fixed),
                ],
                |t, x| {
                    let of = |gradient| Updated { gradient, more: false, copy: false };
                    t.record(Sgd::new(0.9, 4e-4, vec![of(true), of(false)]), x)
                },
            ),
            Case::new(
                "a gradient of two terms",
                &[
                    (&[5, 7], F::Fixed),
                    (&[5, 7], F::Fixed),
                    (&[5, 7], F::Fixed),
                    (&[5, 7], F::Fixed),
                    (&[], F::Fixed),
                ],
                |t, x| {
                    t.record(
                        Sgd::new(0.9, 4e-4, vec![Updated { gradient: true, more: true, copy: false }]),
                        x,
                    )
                },
            ),
        ],
        invalid: vec![Case::new(
            "gradient",
            &[(&[5], F::Fixed), (&[5], F::Fixed), (&[6], F::Fixed), (&[], F::Fixed)],
            go,
        )],
        bench: vec![case("step", &[640, 3, 3, 640])],
    }
}
