//! Measurements: every stem of the registry beside what the machine can do.
//!
//! [`ops_table`] times the registry's bench cases; [`Ceiling`] is what they are judged by. The criterion benchmark
//! `stems` and the program `ops-table` are thin shells around these.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod ceiling;
pub mod gpu;
pub mod mutate;
mod program;
mod table;
mod timing;

pub use ceiling::{Bandwidth, Ceiling};
pub use program::{Program, cases};
pub use table::{Bound, Row, bound, ops_table, render, rows};

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment asks for a device that is not.
    #[error("{0}")]
    Device(String),
    /// A trainer that does not run.
    #[error("{0}")]
    Training(String),
    /// A parser that panicked or took too much memory.
    #[error("{0}")]
    Hostile(String),
    /// A case that does not run.
    #[error(transparent)]
    Engine(#[from] engine::Error),
}

/// A result of this crate.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// The CPU as `JEMPP_SIMD` and `JEMPP_DEBUG` ask for it; 0 threads: one a core.
///
/// # Errors
/// If a variable has an unknown value.
pub fn device(threads: usize) -> Result<engine::Device> {
    engine::Device::cpu_from_env(threads).map_err(Error::Device)
}
