//! Whether a GPU computes what the CPU computes, and how fast: what `gpu-check` does beyond checking the libraries.
//!
//! What must hold: a failed check is reported with what it measured and does not stop the others; all tolerances are in
//! one table.

mod convolutions;
mod data;
mod fusion;
pub mod journal;
pub mod needs;
mod norm;
mod parity;
mod peak;
mod reference;
pub mod report;
mod roofline;
pub mod runner;
mod sanitizer;
pub mod selftest;
mod speed;
pub mod stages;
pub mod summary;
mod training;
mod whole;

use engine::{Device, Precision};
use kernels::gpu::Gpu;
use serde_json::Value;

pub use journal::{Fault, Journal};
pub use stages::{Job, Stage, Wanted};

/// How far a device may differ from the CPU.
#[derive(Clone, Copy, Debug)]
struct Allowed {
    precision: Precision,
    /// Largest |a − b| / max|b| of an op's results and gradients.
    op: f64,
    /// Largest difference of a tensor after one training step, relative to its largest value or `floor`.
    step: f32,
    /// The floor, for biases before a batch norm: their gradients are zero in exact arithmetic, so only rounding is
    /// left.
    floor: f32,
}

/// Float32: sums in a different order. TF32: the factors of products are rounded to 2⁻¹¹, which the CPU does not do.
/// bf16: compared with a CPU that rounds in the same places, where a sum in a different order may round to a
/// neighbouring value, 2⁻⁷ away; and cuDNN rounds filter gradients and the addend of a convolution once more.
const ALLOWED: [Allowed; 3] = [
    Allowed { precision: Precision::F32, op: 2e-5, step: 2e-4, floor: 0.05 },
    Allowed { precision: Precision::Tf32, op: 4e-3, step: 0.03, floor: 0.1 },
    Allowed { precision: Precision::Bf16, op: 0.016, step: 0.05, floor: 0.2 },
];

/// What a check found: a sentence and its numbers.
pub type Found = Result<(String, Value), Wrong>;

/// What is wrong, as a sentence, and what was measured all the same.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// The finding.
    pub text: String,
    /// Its numbers.
    pub data: Value,
}

impl<T: Into<String>> From<T> for Wrong {
    fn from(text: T) -> Self {
        Self { text: text.into(), data: Value::Null }
    }
}

fn allowed(gpu: &Device) -> Option<Allowed> {
    let precision = gpu.as_gpu()?.precision();
    ALLOWED.into_iter().find(|a| a.precision == precision)
}

/// Which sizes to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Those of real networks.
    Real,
    /// So small that a simulated device runs them in seconds: times mean nothing, but everything runs once.
    Small,
}

/// Whether a convolution runs on the project's own kernel because a library refused it. A time measured with one says
/// nothing, and takes minutes: what is timed asks before it begins.
fn fell_back(gpu: &Gpu) -> Option<String> {
    gpu.notes().into_iter().find(|note| note.starts_with("convolutions run on the project's own kernels"))
}

/// Largest |a − b| / max|b|; infinity where lengths differ or only one side has NaN.
fn largest(got: &[f32], want: &[f32]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let scale = want.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    let mut worst = 0.0f64;
    for (g, w) in got.iter().zip(want).filter(|(g, w)| g != w && !(g.is_nan() && w.is_nan())) {
        let off = f64::from((g - w).abs() / scale);
        worst = if off.is_nan() { f64::INFINITY } else { worst.max(off) };
    }
    worst
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_relative_and_nothing_hides() {
        assert_eq!(largest(&[1.0, -2.0], &[1.0, -2.0]), 0.0);
        assert!((largest(&[1.0, -2.2], &[1.0, -2.0]) - 0.1).abs() < 1e-6);
        assert_eq!(largest(&[f32::NAN], &[1.0]), f64::INFINITY);
        assert_eq!(largest(&[f32::NAN], &[f32::NAN]), 0.0);
        assert_eq!(largest(&[1.0], &[]), f64::INFINITY);
    }
}
