//! Arguments of `eval accuracy`, `calibration`, `ood`, `attack` and `thresholds`.

use super::target::{EvalOutput, EvalTarget, SplitName};
use crate::args::headings::{DATA, OUTPUT};
use crate::args::number;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Arguments of `eval accuracy`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval accuracy -m runs/train-001   on the test images of its data set
  jempp-cli eval accuracy -m runs/train-001 --split train --json")]
pub(crate) struct Accuracy {
    /// Run folder, checkpoint folder or model file
    #[arg(short, long, value_name = "PATH", help_heading = DATA)]
    pub model: PathBuf,
    /// Data set, by name or path [default: the one trained on]
    #[arg(long, value_name = "NAME", help_heading = DATA)]
    pub data: Option<String>,
    /// Split to evaluate: test, valid or train
    #[arg(long, value_enum, default_value_t = SplitName::Test)]
    #[arg(hide_possible_values = true, help_heading = DATA)]
    pub split: SplitName,
    /// Print one JSON object
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}

/// Arguments of `eval calibration`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval calibration -m runs/train-001
  jempp-cli eval calibration -m runs/train-001 --bins 15 --out results")]
#[command(after_long_help = "Examples:
  jempp-cli eval calibration -m runs/train-001
  jempp-cli eval calibration -m runs/train-001 --bins 15 --out results
  jempp-cli eval calibration -m runs/train-001 --noise 0.03 --json

The temperature is fitted on the validation images, if the run held some back (data.valid_size).")]
pub(crate) struct Calibration {
    /// The model and the images.
    #[command(flatten)]
    pub target: EvalTarget,
    /// Confidence bins [default: the model's eval.ece_bins, or 20]
    #[arg(long, value_name = "N", help_heading = "Calibration")]
    pub bins: Option<usize>,
    /// Std. dev. of noise added to the images
    ///
    /// Pixels are in [-1, 1]. The scripts published with JEM use 0.03.
    #[arg(long, value_name = "STD", default_value_t = 0.0, help_heading = "Calibration")]
    pub noise: f64,
    /// Where the numbers go.
    #[command(flatten)]
    pub output: EvalOutput,
}

/// Arguments of `eval ood`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval ood -m runs/train-001
  jempp-cli eval ood -m runs/train-001 --ood-data svhn --ood-data cifar100")]
#[command(after_long_help = "Examples:
  jempp-cli eval ood -m runs/train-001
  jempp-cli eval ood -m runs/train-001 --ood-data svhn --ood-data cifar100
  jempp-cli eval ood -m runs/train-001 -n 1000 --no-gradient --out results

The scores are log p(x), max p(y|x) and −‖∂log p/∂x‖; high scores mean in-distribution. Out-of-distribution images are the
test images of each --ood-data set, resized if needed, and synthetic sets: shuffled pixels, averages of two images, blurred
images, uniform and Gaussian noise, constant images.")]
pub(crate) struct Ood {
    /// The model and the images.
    #[command(flatten)]
    pub target: EvalTarget,
    /// Out-of-distribution data set; repeatable
    ///
    /// By name or path; its test images are used. More than one can be given.
    #[arg(long, alias = "against", value_name = "NAME", help_heading = "Detection")]
    pub ood_data: Vec<String>,
    /// Skip the score −‖∂log p/∂x‖ (two thirds of the time)
    #[arg(long, help_heading = "Detection")]
    pub no_gradient: bool,
    /// Std. dev. of noise added to all images
    ///
    /// Pixels are in [-1, 1].
    #[arg(long, value_name = "STD", default_value_t = 0.0, help_heading = "Detection")]
    pub noise: f64,
    /// Where the numbers go.
    #[command(flatten)]
    pub output: EvalOutput,
}

/// Arguments of `eval attack`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval attack -m runs/train-001 -n 100
  jempp-cli eval attack -m runs/a --norm linf --epsilon 4/255,8/255 --restarts 5
  jempp-cli eval attack -m runs/train-001 --transfer-from runs/softmax-001")]
#[command(after_long_help = "Examples:
  jempp-cli eval attack -m runs/train-001 -n 100
  jempp-cli eval attack -m runs/a --norm linf --epsilon 4/255,8/255 --restarts 5
  jempp-cli eval attack -m runs/train-001 --transfer-from runs/softmax-001

PGD from random starts on the cross-entropy; images that survive are attacked again on the margin (DLR) loss. ε and step
sizes are in units of pixels in [0, 1]. To detect gradient masking, the results are compared with random noise of the same
size and, with --transfer-from, with adversarial examples of another model.")]
pub(crate) struct Attack {
    /// The model and the images.
    #[command(flatten)]
    pub target: EvalTarget,
    /// Perturbation norm: linf or l2 [default: both]
    #[arg(long, value_enum, hide_possible_values = true, help_heading = "Attack")]
    pub norm: Vec<AttackNorm>,
    /// Radii [default: L∞ 2/255 to 32/255, L2 0.25 to 2]
    ///
    /// Separated by commas, in units of pixels in [0, 1]; fractions such as 8/255 may be written as they are.
    #[arg(long, value_name = "ε", value_delimiter = ',', value_parser = number, help_heading = "Attack")]
    pub epsilon: Vec<f64>,
    /// PGD steps [default: L∞ 40, L2 50]
    #[arg(long, value_name = "N", help_heading = "Attack")]
    pub steps: Option<u32>,
    /// PGD step size [default: L∞ ε/30, L2 ε/40]
    #[arg(long, value_name = "SIZE", value_parser = number, help_heading = "Attack")]
    pub step_size: Option<f64>,
    /// Random restarts
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Attack")]
    pub restarts: u32,
    /// Skip the attack on the margin (DLR) loss
    #[arg(long, help_heading = "Attack")]
    pub no_margin: bool,
    /// Also use adversarial examples of this model
    #[arg(long, alias = "transfer", value_name = "PATH", help_heading = "Attack")]
    pub transfer_from: Option<PathBuf>,
    /// Where the numbers go.
    #[command(flatten)]
    pub output: EvalOutput,
}

/// Norm that bounds an adversarial perturbation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AttackNorm {
    /// Largest change of any pixel
    Linf,
    /// Euclidean length of the perturbation
    L2,
}

/// Arguments of `eval thresholds`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval thresholds -m runs/train-001   stored in its last checkpoint
  jempp-cli eval thresholds -m model.safetensors -o with-thresholds.safetensors")]
#[command(after_long_help = "Examples:
  jempp-cli eval thresholds -m runs/train-001   stored in its last checkpoint
  jempp-cli eval thresholds -m model.safetensors -o with-thresholds.safetensors

Training does this at its end if there are at least 40 validation images (data.valid_size). With thresholds, `predict` also
gives a calibrated probability, a p-value of log p(x), and whether to abstain.")]
pub(crate) struct Thresholds {
    /// Run folder, checkpoint folder or model file
    #[arg(short, long, value_name = "PATH", help_heading = DATA)]
    pub model: PathBuf,
    /// Data set, by name or path [default: the one trained on]
    #[arg(long, value_name = "NAME", help_heading = DATA)]
    pub data: Option<String>,
    /// Allowed rate of prediction sets without the label
    ///
    /// α of split conformal prediction.
    #[arg(long, default_value_t = jempp::model::thresholds::ALPHA, help_heading = "Thresholds")]
    pub alpha: f64,
    /// Allowed rate of rejected in-distribution images
    #[arg(long, value_name = "ALPHA", default_value_t = jempp::model::thresholds::ALPHA)]
    #[arg(help_heading = "Thresholds")]
    pub ood_alpha: f64,
    /// New model file [default: store in the run's last checkpoint]
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub output: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}
