//! Arguments of `eval`.

mod all;
mod fid;
mod metrics;

pub use all::All;
pub use fid::{Fid, InceptionOptions, ResizeName, VariantName};
pub use metrics::{Accuracy, Attack, AttackNorm, Calibration, Ood, Thresholds};

use super::{DATA, OUTPUT};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Arguments of `eval`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval accuracy -m runs/train-001
  jempp-cli eval all -m runs/train-001   everything, with an HTML report
  jempp-cli eval attack --help           options of one evaluation")]
pub struct Eval {
    /// What to evaluate.
    #[command(subcommand)]
    pub command: EvalCommand,
}

/// The evaluations.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Accuracy, ECE, and out-of-distribution AUROC of log p(x)
    Accuracy(Accuracy),
    /// Calibration and proper scores, with temperature scaling
    Calibration(Calibration),
    /// Out-of-distribution detection: AUROC, FPR95 and AUPR
    Ood(Ood),
    /// Accuracy under PGD attack, with checks for gradient masking
    Attack(Attack),
    /// FID and Inception score of samples; needs InceptionV3 weights
    Fid(Fid),
    /// All of the above and samples, in one HTML report
    All(All),
    /// Fit abstention thresholds and store them in the model
    Thresholds(Thresholds),
}

/// Part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SplitName {
    /// Test images
    Test,
    /// Validation images, held back from training
    Valid,
    /// Training images
    Train,
}

/// The model to evaluate and the images to evaluate it on.
#[derive(Args, Debug)]
#[command(next_help_heading = DATA)]
pub struct EvalTarget {
    /// Run folder, checkpoint folder or model file
    #[arg(short, long, value_name = "PATH")]
    pub model: PathBuf,
    /// Data set, by name or path [default: the one trained on]
    #[arg(long, value_name = "NAME")]
    pub data: Option<String>,
    /// Split to evaluate: test, valid or train
    #[arg(long, value_enum, default_value_t = SplitName::Test, hide_possible_values = true)]
    pub split: SplitName,
    /// Evaluate only N images, drawn at random
    #[arg(short, long)]
    pub n: Option<usize>,
}

/// Where the numbers go.
#[derive(Args, Debug)]
#[command(next_help_heading = OUTPUT)]
pub struct EvalOutput {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Write JSON and SVG files to this folder
    ///
    /// Finished parts are kept there, too, so that an interrupted evaluation continues where it stopped.
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
