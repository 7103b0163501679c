//! Training. [`Trainer`] trains on batches that a host program gives; [`TrainStep`] is the iteration that it and a training
//! run share.
//!
//! Invariant: an iteration is a function of the state, the batches and the counters alone.

mod actnorm;
mod adversary;
mod export;
mod guard;
mod health;
mod init_images;
mod iteration;
mod monitor;
mod program;
pub mod recalibrate;
mod recovery;
mod schedule;
mod slots;
mod state;
mod step;
mod trainer;
mod transfer;
mod update;
mod warm;

use crate::config::Config;
use engine::DType;
use serde::{Deserialize, Serialize};

pub(crate) use export::{describe, served_bn, served_model};
pub(crate) use guard::{Guard, Rollback};
pub(crate) use monitor::Failure;
pub use recovery::Recovery;
pub(crate) use state::TrainState;
pub use step::TrainStep;
pub use trainer::Trainer;
pub(crate) use warm::WarmStart;
pub use warm::adopt_network;

/// The batches of one iteration: images are N×H×W×C in [−1, 1].
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Images for log p(x), `train.batch_size` of them; ignored if log p(x) is not trained.
    pub x_data: &'a [f32],
    /// Labelled images, `train.labelled_batch_size` of them, or if that is 0 `train.batch_size`.
    pub x_labelled: &'a [f32],
    /// Labels of `x_labelled`, from 0.
    pub labels: &'a [i32],
    /// Where the chains start, instead of the replay buffer; they are then not written back to it.
    pub chain_start: Option<&'a [f32]>,
}

/// The batches of one iteration, as indices of images of the data set.
#[derive(Clone, Copy, Debug)]
pub struct BatchIndices<'a> {
    /// Images for log p(x), `train.batch_size` of them; ignored if log p(x) is not trained.
    pub data: &'a [u32],
    /// Labelled images.
    pub labelled: &'a [u32],
}

/// The metrics of one iteration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Iterations done.
    pub step: u64,
    /// The loss.
    pub loss: f64,
    /// Mean cross-entropy of the labelled batch.
    pub ce: f64,
    /// Mean unnormalised log p(x) of the data; NaN if log p(x) is not trained.
    pub log_density_data: f64,
    /// Mean unnormalised log p(x) of the chains; NaN if log p(x) is not trained.
    pub log_density_chain: f64,
    /// Fraction of the labelled batch that is classified correctly.
    pub accuracy: f64,
    /// Learning rate of this iteration.
    pub lr: f64,
}

impl StepMetrics {
    /// mean f(x_data) − mean f(x_chain), where f is the unnormalised log p(x).
    pub fn gap(&self) -> f64 {
        self.log_density_data - self.log_density_chain
    }
}

/// The integers that, together with the tensors of the state, determine all further iterations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Iterations done.
    pub iteration: u64,
    /// Sampling rounds done.
    pub round: u32,
    /// Chain steps done.
    pub chain_step: u32,
}

/// Options of a [`TrainStep`] besides the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Float type of the parameters. With float64, the reference for tests, chains start at [`Batch::chain_start`] only. With
    /// float32 the device determines the type of activations ([`engine::Device::activations`]).
    pub dtype: DType,
    /// Whether gradients can be read after a step.
    pub keep_gradients: bool,
    /// Whether every op is recorded by itself, as on a GPU: the reference for fused convolutions
    /// ([`crate::network::Network::fused`]).
    pub unfused: bool,
    /// Whether data and labelled images have a program of their own, which on a GPU runs beside the chain steps, where the
    /// configuration allows it; `None`: as the device says ([`engine::Device::branches`]).
    pub branches: Option<bool>,
}

impl Default for Options {
    fn default() -> Self {
        Self { dtype: DType::F32, keep_gradients: false, unfused: false, branches: None }
    }
}

/// Size and cost of training, known before it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Number of trainable parameters.
    pub parameters: u64,
    /// Bytes of weights, optimiser, statistics, replay buffer and training images.
    pub state_bytes: u64,
    /// Bytes of the planned programs.
    pub program_bytes: u64,
    /// Floating-point operations of an iteration.
    pub flops: u64,
}

/// Number of images in a labelled batch.
fn labelled_size(c: &Config) -> usize {
    if c.train.labelled_batch_size == 0 { c.train.batch_size } else { c.train.labelled_batch_size }
}
