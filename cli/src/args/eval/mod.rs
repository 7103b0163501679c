//! Arguments of `eval`.

mod all;
mod fid;
mod metrics;
mod target;

pub(crate) use all::All;
pub(crate) use fid::{Fid, InceptionOptions, ResizeName, VariantName};
pub(crate) use metrics::{Accuracy, Attack, AttackNorm, Calibration, Ood, Thresholds};
pub(crate) use target::{EvalOutput, EvalTarget, SplitName};

use clap::{Args, Subcommand};

/// Arguments of `eval`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval accuracy -m runs/train-001
  jempp-cli eval all -m runs/train-001   everything, with an HTML report
  jempp-cli eval attack --help           options of one evaluation")]
pub(crate) struct Eval {
    /// What to evaluate.
    #[command(subcommand)]
    pub command: EvalCommand,
}

/// The evaluations.
#[derive(Debug, Subcommand)]
pub(crate) enum EvalCommand {
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
