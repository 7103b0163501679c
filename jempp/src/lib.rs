//! Joint energy-based models: Wide-ResNet classifiers read as energy-based models, `log p(x) = logsumexp_y
//! f(x)[y] + const`, after JEM++ (Yang & Ji, ICCV 2021).
//!
//! Most programs need only the items at this level:
//! - [`Model::load`], then [`Model::logits`], [`Model::log_density`], [`Model::input_grad`] and [`sample()`];
//! - [`Trainer::new`], then [`Trainer::step`], [`Trainer::model`] and [`Trainer::save`].
//!
//! The modules hold the rest, listed from the lowest level to the highest: a module uses only those before it. [`run`] is the
//! training run of the command line.
//!
//! Images are float32 N×H×W×C in [−1, 1] everywhere, in one slice.
//!
//! Invariants: nothing here prints, exits or panics; every failure is an [`Error`]; every random number is a function of
//! (seed, stream, step, element), so that a run can be repeated and resumed bit for bit.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod error;
mod paths;

pub mod ball;
pub mod config;
pub mod devices;
pub mod metrics;

pub mod network;
pub mod temperature;

pub mod checkpoint;

pub mod model;

pub mod evaluation;
pub mod inspect;
pub mod sampling;

pub mod train;

pub mod interop;
pub mod run;

pub use config::Config;
pub use engine::{self, Device};
pub use error::{Error, Result};
pub use jempp_data as data;
pub use jempp_data::streams;
pub use model::{Model, Scores};
pub use sampling::draw::{SampleOptions, Samples, sample};
pub use train::{Batch, StepMetrics, Trainer};
