//! Arguments of `inspect` and `devices`.

use clap::Args;
use std::path::PathBuf;

/// Arguments of `inspect`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli inspect runs/train-001                 its last checkpoint
  jempp-cli inspect runs/train-001/ckpt/step_220   another checkpoint
  jempp-cli inspect model.safetensors -v           every tensor, too")]
pub(crate) struct Inspect {
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
  JEMPP_CUDA_PATH=/opt/cuda jempp-cli devices   search there first")]
pub(crate) struct Devices {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
