//! Arguments of `eval`, `inspect` and `devices`.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Arguments of `eval`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval accuracy --model runs/train-001
  jempp-cli eval accuracy --help")]
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

/// Arguments of `inspect`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli inspect runs/train-001                   its last checkpoint
  jempp-cli inspect runs/train-001/ckpt/step_220     another one
  jempp-cli inspect model.safetensors -v             with every tensor
  jempp-cli inspect runs/train-001 --json")]
pub struct Inspect {
    /// Run folder, checkpoint folder or model file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `devices`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli devices
  jempp-cli devices --json
  JEMPP_CUDA_PATH=/opt/cuda jempp-cli devices        look for CUDA's libraries there first")]
pub struct Devices {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
