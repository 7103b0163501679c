//! Arguments of `convert`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Arguments of `convert`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli convert cifar10_jempp.pt model.safetensors           a published checkpoint, of any PyTorch
  jempp-cli convert runs/train-001 model.pt                      for torch.load(..., weights_only=True)
  jempp-cli convert runs/train-001 model.onnx                    logits and log_density, for onnxruntime
  jempp-cli convert model.pt model.onnx --onnx-bn keep
  jempp-cli convert model.pt model.safetensors --recalibrate photos
  jempp-cli convert model.pt model.safetensors --mean cifar10_mean.pt --cov cifar10_cov.pt

Published checkpoints can be named without converting wherever a model is: sample -m model.pt --start buffer. They hold
the replay buffer, but no draws to start other chains from (--mean and --cov make some), and batch norm's running
statistics, which --recalibrate replaces by those of clean training images.")]
pub struct Convert {
    /// Run folder, checkpoint folder or model file: safetensors, or .pt as torch.save wrote it (zip or older)
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// File to write
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// Kind of file to write [default: by its name's ending]
    #[arg(long, value_enum, value_name = "KIND")]
    pub to: Option<KindName>,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
    /// In ONNX: batch norm as part of convolutions and as factors, or as itself
    #[arg(long, value_enum, default_value_t = BnName::Fold)]
    pub onnx_bn: BnName,
    /// Batch norm's statistics from the training images of this data set, by name or path
    #[arg(long, value_name = "DATA")]
    pub recalibrate: Option<String>,
    /// Class means, as published, to make draws of that chains can start from
    #[arg(long, value_name = "FILE.pt", requires = "cov")]
    pub mean: Option<PathBuf>,
    /// Class covariances, as published
    #[arg(long, value_name = "FILE.pt", requires = "mean")]
    pub cov: Option<PathBuf>,
    /// The norm of a published checkpoint, where its shapes cannot tell
    #[arg(long, value_enum)]
    pub norm: Option<NormName>,
    /// Size of the images of a published checkpoint without a replay buffer [default: 32 32]
    #[arg(long, num_args = 2, value_names = ["HEIGHT", "WIDTH"])]
    pub image_size: Option<Vec<usize>>,
}

/// Kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindName {
    /// This program's own
    Safetensors,
    /// A checkpoint for PyTorch
    Pt,
    /// A graph for onnxruntime and others
    Onnx,
}

/// What becomes of batch norm in ONNX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BnName {
    /// Part of convolutions where possible, else a factor and a summand
    Fold,
    /// Itself
    Keep,
}

/// Norms that look alike in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NormName {
    /// Each channel of each image
    Instance,
    /// Each image
    Layer,
}
