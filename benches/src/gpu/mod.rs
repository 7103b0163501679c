//! Whether a GPU gives what the CPU gives, and how fast: what `gpu-check` does beyond the libraries' own checks.
//!
//! What must hold: a check that fails says so and stops no other.

mod fusion;
mod norm;
mod parity;
mod roofline;
mod sanitizer;
mod speed;
mod training;
mod whole;

use crate::Result;
use engine::Device;
use kernels::gpu::selftest::Outcome;
use serde_json::{Value, json};
use std::time::Instant;

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

/// Every case of the registry, and training, against the CPU.
pub fn against_the_cpu(gpu: &Device) -> Vec<Check> {
    let mut checks = parity::checks(gpu);
    checks.extend(training::checks(gpu));
    checks
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
pub fn timed(gpu: &Device, size: Size) -> Vec<Check> {
    let mut checks = if size == Size::Real { speed::checks(gpu) } else { Vec::new() };
    checks.extend(norm::checks(gpu, size));
    checks.extend(fusion::checks(gpu, size));
    checks.extend(roofline::checks(gpu, size));
    checks.extend(whole::checks(gpu, size));
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
