//! Joint energy-based models: Wide-ResNet classifiers read as energy-based models, `log p(x) = logsumexp_y
//! f(x)[y] + const`, after JEM++ (Yang & Ji, ICCV 2021).
//!
//! Most programs need no more than what is named at this level:
//! - [`Model::load`], then [`Model::logits`], [`Model::log_density`], [`Model::input_grad`] and [`sample()`];
//! - [`Trainer::new`], then [`Trainer::step`], [`Trainer::model`] and [`Trainer::save`].
//!
//! The modules are the rest: [`session`] is the command line's training run, [`eval`] its judgement.
//!
//! Images are float32 N×H×W×C in [−1, 1] everywhere, in one slice.
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
pub mod host;
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
pub mod snapshot;
pub mod streams;
pub mod tensorboard;
pub mod torch;
pub mod train;

pub use config::Config;
pub use engine::{self, Device};
pub use error::{Error, Result};
pub use host::Trainer;
pub use infer::{Model, Scores};
pub use sample::{SampleOptions, Samples, sample};
pub use train::{Batch, StepMetrics};
