//! Whether a GPU gives what the CPU gives, and how fast: what `gpu-check` does beyond the libraries' own checks.
//!
//! What must hold: a check that fails says so and stops no other; what a device may differ by stands in one table.

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

/// What a device may differ by from the CPU.
#[derive(Clone, Copy, Debug)]
struct Allowed {
    precision: Precision,
    /// Its name.
    name: &'static str,
    /// Largest |a − b| / max|b| of an op's results and gradients.
    op: f64,
    /// Largest difference of a tensor after one training step, relative to its largest value or `floor`.
    step: f32,
    /// The floor, for biases before a batch norm, whose gradients, zero in exact arithmetic, are rounding only.
    floor: f32,
}

/// Float32: sums in another order. TF32: factors of products rounded to 2⁻¹¹, which the CPU does not do. bf16: against
/// the CPU rounding at the same places, where a sum in another order may round to a neighbour, 2⁻⁷ away, and cuDNN
/// rounds the gradient of filters and what a convolution is added to once more.
const ALLOWED: [Allowed; 3] = [
    Allowed { precision: Precision::F32, name: "f32", op: 2e-5, step: 2e-4, floor: 0.05 },
    Allowed { precision: Precision::Tf32, name: "tf32", op: 4e-3, step: 0.03, floor: 0.1 },
    Allowed { precision: Precision::Bf16, name: "bf16", op: 0.016, step: 0.05, floor: 0.2 },
];

/// One check.
#[derive(Clone, Debug)]
pub struct Check {
    /// What kind it is.
    pub group: &'static str,
    /// What was checked.
    pub name: String,
    /// How it ended.
    pub status: Outcome,
    /// What was found, as a sentence.
    pub detail: String,
    /// The same as numbers.
    pub data: Value,
    /// How long it took.
    pub ms: f64,
}

impl Check {
    /// As JSON.
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

/// Makes one check.
fn check(group: &'static str, name: impl Into<String>, f: impl FnOnce() -> Result<Found>) -> Check {
    let start = Instant::now();
    let (status, detail, data) = match f() {
        Ok(Ok((detail, data))) => (Outcome::Ok, detail, data),
        Ok(Err(wrong)) => (Outcome::Failed, wrong, Value::Null),
        Err(error) => (Outcome::Failed, error.to_string(), Value::Null),
    };
    Check { group, name: name.into(), status, detail, data, ms: start.elapsed().as_secs_f64() * 1e3 }
}

/// The same device in every precision: `open` gives it.
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

/// What sizes to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Those of real networks.
    Real,
    /// So small that a made-up device does them in seconds: times mean nothing, but everything runs once.
    Small,
}

/// Everything that is timed: bench cases beside copies on the device, batch norm and fused patterns beside cuDNN's,
/// whole iterations and what bounds them.
///
/// Bench cases run in other precisions than float32 where these change them; what is compared with cuDNN, and what
/// bounds the step, is of the first device.
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

/// The comparisons again under NVIDIA's compute-sanitizer.
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
