//! Benchmarks: criterion over every op of the registry, and the check of a GPU. The measuring itself is in
//! [`jempp_bench`].
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod gpu;
pub mod gpu_plan;
pub mod mutate;

pub use jempp::{Error, Result};
pub use jempp_bench::{BenchProgram, Bound, Ceiling, bound, cases, render, rows};

/// The CPU device that `JEMPP_SIMD` and `JEMPP_DEBUG` ask for; 0 threads: one per core.
///
/// # Errors
/// If a variable has an unknown value.
pub fn device(threads: usize) -> Result<engine::Device> {
    engine::Device::cpu_from_env(threads).map_err(Error::Device)
}
