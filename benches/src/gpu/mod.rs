//! Whether a GPU computes what the CPU computes, and how fast: what `gpu-check` does beyond checking the libraries.
//!
//! Invariant: a failed check is reported and does not stop the others; all tolerances are in one table.

mod fusion;
mod norm;
mod parity;
mod peak;
mod reference;
mod roofline;
mod sanitizer;
pub mod selftest;
mod speed;
mod training;
mod whole;

use crate::Result;
use engine::{Device, Precision};
use serde_json::{Value, json};
use std::time::Instant;

use selftest::Outcome;

/// How far a device may differ from the CPU.
#[derive(Clone, Copy, Debug)]
struct Allowed {
    precision: Precision,
    /// The precision's name in reports.
    name: &'static str,
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
    Allowed { precision: Precision::F32, name: "f32", op: 2e-5, step: 2e-4, floor: 0.05 },
    Allowed { precision: Precision::Tf32, name: "tf32", op: 4e-3, step: 0.03, floor: 0.1 },
    Allowed { precision: Precision::Bf16, name: "bf16", op: 0.016, step: 0.05, floor: 0.2 },
];

/// One check.
#[derive(Clone, Debug)]
pub struct Check {
    /// The kind of check.
    pub group: &'static str,
    /// What was checked.
    pub name: String,
    /// How it ended.
    pub status: Outcome,
    /// The finding, as a sentence.
    pub detail: String,
    /// The finding, as numbers.
    pub data: Value,
    /// How long it took, in milliseconds.
    pub ms: f64,
}

impl Check {
    /// The check as a JSON object.
    pub fn json(&self) -> Value {
        json!({
            "group": self.group,
            "name": self.name,
            "status": self.status.as_str(),
            "detail": self.detail,
            "data": self.data,
            "ms": self.ms,
        })
    }
}

/// What a check found: a sentence and its numbers. `Err`: what is wrong.
type Found = core::result::Result<(String, Value), String>;

/// Runs one check.
fn check(group: &'static str, name: impl Into<String>, f: impl FnOnce() -> Result<Found>) -> Check {
    let start = Instant::now();
    let (status, detail, data) = match f() {
        Ok(Ok((detail, data))) => (Outcome::Ok, detail, data),
        Ok(Err(wrong)) => (Outcome::Failed, wrong, Value::Null),
        Err(error) => (Outcome::Failed, error.to_string(), Value::Null),
    };
    Check { group, name: name.into(), status, detail, data, ms: start.elapsed().as_secs_f64() * 1e3 }
}

/// The device once per precision, each opened by `open`.
///
/// # Errors
/// Those of `open`.
pub fn each_precision<E>(open: impl FnMut(Precision) -> Result<Device, E>) -> Result<Vec<Device>, E> {
    ALLOWED.iter().map(|a| a.precision).map(open).collect()
}

/// Every case of the registry, and training, against the CPU, in each device's precision.
pub fn against_the_cpu(gpus: &[Device]) -> Vec<Check> {
    let each = |checks: fn(&Device, Allowed) -> Vec<Check>| {
        gpus.iter().filter_map(|d| Some((d, allowed(d)?))).flat_map(move |(d, a)| checks(d, a))
    };
    each(parity::checks).chain(each(training::checks)).collect()
}

fn allowed(gpu: &Device) -> Option<Allowed> {
    let precision = gpu.as_gpu()?.precision();
    ALLOWED.into_iter().find(|a| a.precision == precision)
}

/// Which sizes to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Those of real networks.
    Real,
    /// So small that a simulated device runs them in seconds: times mean nothing, but everything runs once.
    Small,
}

/// Everything that is timed: bench cases compared with copies on the device, batch norm and fused patterns compared
/// with cuDNN's, whole iterations and what bounds them.
///
/// Bench cases also run in precisions other than float32 where these make a difference; the comparisons with cuDNN, and
/// the bounds of the iteration, use the first device only.
pub fn timed(gpus: &[Device], size: Size) -> Vec<Check> {
    let mut checks = Vec::new();
    if size == Size::Real {
        let each = gpus.iter().filter_map(|d| Some((d, allowed(d)?)));
        checks.extend(each.flat_map(|(d, a)| speed::checks(d, a)));
    }
    if let Some(gpu) = gpus.first() {
        checks.extend(norm::checks(gpu, size));
        checks.extend(fusion::checks(gpu, size));
        checks.extend(roofline::checks(gpu, size));
        checks.extend(whole::checks(gpu, size));
    }
    checks
}

/// Repeats the comparisons under NVIDIA's compute-sanitizer.
///
/// # Errors
/// A sentence, where the tool is not found.
pub fn sanitized(gpu: &Device) -> Result<Check, String> {
    sanitizer::check_with(gpu)
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
