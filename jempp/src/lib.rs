//! Joint energy-based models: Wide-ResNet classifiers read as energy-based models, `log p(x) = logsumexp_y
//! f(x)[y] + const`, after JEM++ (Yang & Ji, ICCV 2021).
//!
//! Most programs need no more than what is named at this level:
//! - [`Model::load`], then [`Model::logits`], [`Model::log_density`], [`Model::input_grad`] and [`sample()`];
//! - [`Trainer::new`], then [`Trainer::step`], [`Trainer::model`] and [`Trainer::save`].
//!
//! The modules are the rest: [`run`] is the command line's training run, [`evaluation`] what ends it.
//!
//! Images are float32 N×H×W×C in [−1, 1] everywhere, in one slice.
//!
//! Invariant: nothing here prints, exits or panics; every failure is an [`Error`], and every draw of randomness
//! is named by (seed, stream, step), so that a run can be repeated and resumed bit by bit.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod ball;
pub mod checkpoint;
pub mod config;
pub mod devices;
pub mod error;
pub mod evaluation;
pub mod inspect;
pub mod interop;
pub mod metrics;
pub mod model;
pub mod network;
pub mod run;
pub mod sampling;
pub mod train;

pub use config::Config;
pub use engine::{self, Device};
pub use error::{Error, Result};
pub use jempp_data as data;
pub use jempp_data::streams;
pub use model::{Model, Scores};
pub use sampling::draw::{SampleOptions, Samples, sample};
pub use train::{Batch, StepMetrics, trainer::Trainer};
