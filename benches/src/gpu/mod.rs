//! Whether a GPU gives what the CPU gives, and how fast: what `gpu-check` does beyond the libraries' own checks.
//!
//! What must hold: a check that fails says so and stops no other.

mod parity;
mod speed;
mod training;

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

/// Every bench case, timed, beside copies on the device.
pub fn timed(gpu: &Device) -> Vec<Check> {
    speed::checks(gpu)
}
