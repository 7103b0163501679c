//! Joint energy-based models: Wide-ResNet classifiers read as energy-based models, `log p(x) = logsumexp_y
//! f(x)[y] + const`, after JEM++ (Yang & Ji, ICCV 2021).
//!
//! Invariant: nothing here prints, exits or panics; every failure is an [`Error`], and every draw of randomness
//! is named by (seed, stream, step), so that a run can be repeated and resumed bit by bit.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod bench;
pub mod checkpoint;
pub mod config;
pub mod convert;
pub mod curves;
pub mod data;
pub mod devices;
pub mod error;
pub mod eval;
pub mod files;
pub mod grid;
pub mod images;
pub mod infer;
pub mod inspect;
pub mod judge;
pub mod metrics;
pub mod model;
pub mod npz;
pub mod onnx;
pub mod pickle;
pub mod predict;
pub mod recalibrate;
pub mod sample;
pub mod sampler;
pub mod session;
pub mod tensorboard;
pub mod torch;
pub mod train;

pub use engine;
pub use error::{Error, Result};
