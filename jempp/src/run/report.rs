//! What a run tells: before, on the way, and at its end.

use crate::config::EvalBn;
use crate::evaluation::Evaluation;
use crate::train::{Footprint, StepMetrics};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Who follows a run.
pub trait Observer {
    /// Before the first iteration.
    fn start(&mut self, _plan: &Outline) {}
    /// After each iteration.
    fn iteration(&mut self, _progress: &Progress) {}
    /// Something worth a line.
    fn note(&mut self, _text: &str) {}
    /// Something worth worrying about.
    fn warn(&mut self, _text: &str) {}
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug)]
pub struct Silent;
impl Observer for Silent {}

/// What a run will do and cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    /// Name of the data set.
    pub dataset: String,
    /// Images to train on, to validate on, to test on.
    pub images: [usize; 3],
    /// Where it runs.
    pub device: String,
    /// Parameters, memory, FLOPs.
    pub footprint: Footprint,
    /// Iterations an epoch, and in all.
    pub iterations: [u64; 2],
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Iterations done, and in all.
    pub iterations: [u64; 2],
    /// What the last one measured.
    pub metrics: StepMetrics,
    /// Labelled images trained on a second, over the run.
    pub images_per_second: f64,
    /// Seconds left at this rate.
    pub seconds_left: f64,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The run folder.
    pub folder: PathBuf,
    /// Iterations done.
    pub iterations: u64,
    /// Seconds of training, evaluation and files left out.
    pub training_seconds: f64,
    /// The evaluation on the test images.
    pub test: Evaluation,
    /// Statistics that batch norm used in it; absent where there is none.
    pub bn: Option<EvalBn>,
    /// Mean of f(x_data) − f(x_chain) over the last 200 iterations, and its largest magnitude there; absent where
    /// log p(x) is not trained.
    pub gap: Option<[f64; 2]>,
    /// Grids of samples: those of the epochs, then `chains_last.png`, then `chains_by_class.png`.
    pub grids: Vec<PathBuf>,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
}
