//! What a run reports before it starts, on the way, and at its end.

use super::Best;
use crate::config::EvalBn;
use crate::evaluation::Evaluation;
use crate::paths;
use crate::train::{Footprint, StepMetrics};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Receives the events of a run.
pub trait Observer {
    /// Called before the first iteration.
    fn start(&mut self, _plan: &Outline) {}
    /// Called after each iteration.
    fn iteration(&mut self, _progress: &Progress) {}
    /// Called with a line of information.
    fn note(&mut self, _text: &str) {}
    /// Called with a warning.
    fn warn(&mut self, _text: &str) {}
}

/// An observer that ignores all events.
#[derive(Clone, Copy, Debug)]
pub struct Silent;
impl Observer for Silent {}

/// What a run will do, and its size and cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    /// Name of the data set.
    pub dataset: String,
    /// Numbers of training, validation and test images.
    pub images: [usize; 3],
    /// The device.
    pub device: String,
    /// Parameters, memory and FLOPs.
    pub footprint: Footprint,
    /// Iterations per epoch, and in total.
    pub iterations: [u64; 2],
}

/// The progress of a run.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Iterations done, and in total.
    pub iterations: [u64; 2],
    /// The metrics of the last iteration.
    pub metrics: StepMetrics,
    /// Labelled images per second, averaged over the run.
    pub images_per_second: f64,
    /// Estimated seconds left.
    pub seconds_left: f64,
}

/// Why a run has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// All its iterations are done.
    #[default]
    Complete,
    /// It has reached its time limit and can be resumed.
    TimeLimit,
    /// The validation accuracy has not improved for `train.early_stop_patience` evaluations.
    EarlyStopped,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The run folder.
    #[serde(serialize_with = "paths::one")]
    pub folder: PathBuf,
    /// Why it has ended.
    #[serde(default)]
    pub ended: Ended,
    /// Iterations done.
    pub iterations: u64,
    /// Iterations of the whole run, as its configuration has it; 0 in results of older versions.
    #[serde(default)]
    pub planned_iterations: u64,
    /// Seconds of training, without evaluation and files; those of a run that was resumed include what came before.
    pub training_seconds: f64,
    /// The evaluation on the test images.
    pub test: Evaluation,
    /// The batch-norm statistics used in it; `None` for a network without batch norm.
    pub bn: Option<EvalBn>,
    /// Mean and largest magnitude of f(x_data) − f(x_chain), the gap in unnormalised log p(x), over the last 200 iterations;
    /// `None` if log p(x) is not trained.
    pub gap: Option<[f64; 2]>,
    /// The best evaluation on the validation images, if there are any; its checkpoint is `ckpt/best`.
    #[serde(default)]
    pub best: Option<Best>,
    /// Number of rollbacks after divergence.
    #[serde(default)]
    pub rollbacks: u32,
    /// Grids of chains: those of the epochs, then `chains_last.png`, then `chains_by_class.png`.
    #[serde(serialize_with = "paths::several")]
    pub grids: Vec<PathBuf>,
    /// The last checkpoint.
    #[serde(serialize_with = "paths::one")]
    pub checkpoint: PathBuf,
}
