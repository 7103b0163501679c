//! Arguments of `eval` and `report`.

use super::{Fid, Seeing};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Arguments of `eval`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval accuracy --model runs/train-001
  jempp-cli eval all --model runs/train-001          everything, and a report of it
  jempp-cli eval attack --help")]
pub struct Eval {
    /// What to judge.
    #[command(subcommand)]
    pub command: EvalCommand,
}

/// The judgements.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Accuracy, calibration, and log p(x) as a detector of what is no data
    Accuracy(Accuracy),
    /// Calibration errors, proper scores, and temperature scaling
    Calibration(Calibration),
    /// Detection of what is no data: AUROC, FPR95, AUPR
    Ood(Ood),
    /// Accuracy under attack, and whether the attack can be believed
    Attack(Attack),
    /// FID and Inception score of samples, by InceptionV3 weights that you supply
    Fid(Fid),
    /// All of it, and samples, with a report as one HTML file
    All(All),
    /// Fit thresholds to decide and abstain by to validation images, and store them in the model
    Thresholds(Thresholds),
}

/// Arguments of `eval accuracy`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval accuracy --model runs/train-001                the test images of its data set
  jempp-cli eval accuracy --model runs/train-001 --split train --json")]
pub struct Accuracy {
    /// Run folder, checkpoint folder or model file
    #[arg(short, long, value_name = "PATH")]
    pub model: PathBuf,
    /// Data set, by name or path [default: that of the training]
    #[arg(long, value_name = "NAME")]
    pub data: Option<String>,
    /// Which of its images
    #[arg(long, value_enum, default_value_t = SplitName::Test)]
    pub split: SplitName,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SplitName {
    /// Images for the final judgement
    Test,
    /// Images held back from training
    Valid,
    /// Images trained on
    Train,
}

/// What is judged, on what.
#[derive(Args, Debug)]
pub struct Judged {
    /// Run folder, checkpoint folder or model file
    #[arg(short, long, value_name = "PATH")]
    pub model: PathBuf,
    /// Data set, by name or path [default: that of the training]
    #[arg(long, value_name = "NAME")]
    pub data: Option<String>,
    /// Which of its images
    #[arg(long, value_enum, default_value_t = SplitName::Test)]
    pub split: SplitName,
    /// Only so many of them, drawn by the seed
    #[arg(short, long)]
    pub n: Option<usize>,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Write the numbers as JSON and pictures as SVG into this folder, and keep finished parts there, so that an
    /// interrupted evaluation goes on where it was
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Arguments of `eval calibration`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval calibration --model runs/train-001
  jempp-cli eval calibration --model runs/train-001 --bins 15 --out judged

The temperature is fitted on the validation images, where the run has held some back (data.valid_size).")]
pub struct Calibration {
    /// What is judged, on what.
    #[command(flatten)]
    pub judged: Judged,
    /// Bins of confidence [default: as configured, 20]
    #[arg(long)]
    pub bins: Option<usize>,
    /// Standard deviation of noise added to the images, in units of [-1, 1] (published scripts: 0.03)
    #[arg(long, default_value_t = 0.0)]
    pub noise: f64,
}

/// Arguments of `eval ood`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval ood --model runs/train-001
  jempp-cli eval ood --model runs/train-001 --against svhn --against cifar100 --out judged

Against synthetic sets made of the judged images (shuffled pixels, means of two, blurred) or as many of noise and
constants, and against the test images of the data sets named, scaled if they have another size. High scores mean data.")]
pub struct Ood {
    /// What is judged, on what.
    #[command(flatten)]
    pub judged: Judged,
    /// Data sets of other images, by name or path
    #[arg(long, value_name = "NAME")]
    pub against: Vec<String>,
    /// Leave out the score −‖∂log p/∂x‖, which takes two thirds of the time
    #[arg(long)]
    pub no_gradient: bool,
    /// Standard deviation of noise added to all images, in units of [-1, 1]
    #[arg(long, default_value_t = 0.0)]
    pub noise: f64,
}

/// Arguments of `eval attack`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval attack --model runs/train-001 -n 100
  jempp-cli eval attack --model runs/train-001 --norm l2 --epsilon 0.5,1,2 --restarts 5
  jempp-cli eval attack --model runs/train-001 --transfer runs/softmax-001 --out judged

PGD from a random start on the cross-entropy, then on the margin (DLR) for what survived. ε and steps are in units of
pixels in [0, 1]. The audit compares with noise from the ball and, with --transfer, with adversaries of another model.")]
pub struct Attack {
    /// What is judged, on what.
    #[command(flatten)]
    pub judged: Judged,
    /// The ball; both if none is named
    #[arg(long, value_enum)]
    pub norm: Vec<AttackNorm>,
    /// Its radii [default: L∞ 2/255 to 32/255, L2 0.25 to 2]
    #[arg(long, value_name = "ε", value_delimiter = ',')]
    pub epsilon: Vec<f64>,
    /// Steps [default: L∞ 40, L2 50]
    #[arg(long)]
    pub steps: Option<u32>,
    /// Length of a step [default: L∞ ε/30, L2 ε/40]
    #[arg(long)]
    pub step_size: Option<f64>,
    /// Random starts
    #[arg(long, default_value_t = 1)]
    pub restarts: u32,
    /// Leave out the margin loss
    #[arg(long)]
    pub no_margin: bool,
    /// Another model, whose adversaries are tried too
    #[arg(long, value_name = "PATH")]
    pub transfer: Option<PathBuf>,
}

/// The ball of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AttackNorm {
    /// The largest change of a value
    Linf,
    /// The length of the change
    L2,
}

/// Arguments of `eval thresholds`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval thresholds --model runs/train-001                      into its last checkpoint
  jempp-cli eval thresholds --model model.safetensors --output decides.safetensors

A run with validation images (data.valid_size) fits them at its end. `predict` then gives a calibrated probability, a
p-value of log p(x), and whether to abstain.")]
pub struct Thresholds {
    /// Run folder, checkpoint folder or model file
    #[arg(short, long, value_name = "PATH")]
    pub model: PathBuf,
    /// Data set, by name or path [default: that of the training]
    #[arg(long, value_name = "NAME")]
    pub data: Option<String>,
    /// How often the label may be missing from the prediction set
    #[arg(long, default_value_t = jempp::model::thresholds::ALPHA)]
    pub alpha: f64,
    /// How often data may be taken for none
    #[arg(long, default_value_t = jempp::model::thresholds::ALPHA)]
    pub ood_alpha: f64,
    /// Write the model here, which must not exist, instead of into the run's last checkpoint
    #[arg(short, long, value_name = "FILE.safetensors")]
    pub output: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `eval all`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval all --model runs/train-001                     into runs/train-001/eval and report.html
  jempp-cli eval all --model runs/train-001 --against svhn --transfer runs/softmax-001
  jempp-cli eval all --model model.safetensors --out judged
  jempp-cli eval all --model runs/train-001 --inception W       FID and Inception score too

What is finished is kept: started again after an interruption, it goes on where it was.")]
pub struct All {
    /// Run folder, checkpoint folder or model file
    #[arg(short, long, value_name = "PATH")]
    pub model: PathBuf,
    /// Data set, by name or path [default: that of the training]
    #[arg(long, value_name = "NAME")]
    pub data: Option<String>,
    /// Only so many test images, drawn by the seed
    #[arg(short, long)]
    pub n: Option<usize>,
    /// Test images that are attacked, at most, drawn by the seed; 0 leaves attacks out
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub attacked: usize,
    /// Data sets of other images, by name or path
    #[arg(long, value_name = "NAME")]
    pub against: Vec<String>,
    /// Leave out the score −‖∂log p/∂x‖
    #[arg(long)]
    pub no_gradient: bool,
    /// Random starts of attacks
    #[arg(long, default_value_t = 1)]
    pub restarts: u32,
    /// Another model, whose adversaries are tried too
    #[arg(long, value_name = "PATH")]
    pub transfer: Option<PathBuf>,
    /// Weights of InceptionV3: FID and Inception score of samples are found too (see `eval fid`)
    #[arg(long, value_name = "FILE")]
    pub inception: Option<PathBuf>,
    /// Chains that these are of
    #[arg(long, default_value_t = 10_000, value_name = "N", requires = "inception")]
    pub sampled: usize,
    /// How images are seen, and what they are compared with.
    #[command(flatten)]
    pub seeing: Seeing,
    /// Folder for everything [default: the run folder, if the model is in one]
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `report`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli report runs/train-001                               runs/train-001/report.html
  jempp-cli report runs/jempp runs/softmax -o compared.html     side by side
  jempp-cli report runs/train-001 --json

The page shows what training has written and `eval all` has found; it needs no network and no script.")]
pub struct Report {
    /// Run folders
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Write the page here, which must not exist [default for one run: its report.html, which is replaced]
    #[arg(short, long, value_name = "FILE.html")]
    pub output: Option<PathBuf>,
    /// Print the numbers as one JSON array instead of writing a page
    #[arg(long)]
    pub json: bool,
}
