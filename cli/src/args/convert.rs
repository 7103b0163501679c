//! Arguments of `convert`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Heading of options that only matter for models trained elsewhere.
const PUBLISHED: &str = "Published checkpoints";

/// Arguments of `convert`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli convert cifar10_jempp.pt model.safetensors   a published checkpoint
  jempp-cli convert runs/train-001 model.onnx            for onnxruntime
  jempp-cli convert runs/train-001 model.pt              for torch.load")]
#[command(after_long_help = "Examples:
  jempp-cli convert cifar10_jempp.pt model.safetensors   a published checkpoint
  jempp-cli convert runs/train-001 model.onnx            for onnxruntime
  jempp-cli convert runs/train-001 model.pt              for torch.load
  jempp-cli convert model.pt model.onnx --onnx-bn keep
  jempp-cli convert model.pt model.safetensors --recalibrate photos
  jempp-cli convert model.pt model.safetensors --mean mean.pt --cov cov.pt

A .pt file loads with torch.load(..., weights_only=True). An ONNX graph computes logits and log_density.

Published checkpoints need not be converted: every command that takes a model reads them, as in `sample -m model.pt --start
buffer`. They hold a replay buffer but no class Gaussians to start chains from (--mean and --cov add them), and running
statistics of batch norm, which --recalibrate replaces by those of clean training images.")]
pub(crate) struct Convert {
    /// Run folder, checkpoint folder or model file (.safetensors, .pt)
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// File to write
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// safetensors, pt or onnx [default: by OUT's extension]
    ///
    /// The output format. safetensors is the native format, pt is for PyTorch, onnx for onnxruntime and others.
    #[arg(long, value_enum, value_name = "FORMAT", hide_possible_values = true)]
    pub to: Option<FileFormat>,
    /// Overwrite OUT if it exists
    #[arg(long)]
    pub force: bool,
    /// Batch norm in ONNX: fold or keep
    ///
    /// fold makes it part of the convolutions where possible, else a scale and a shift; keep writes BatchNormalization
    /// nodes.
    #[arg(long, value_enum, default_value_t = BatchNormForm::Fold, value_name = "FORM")]
    #[arg(hide_possible_values = true)]
    pub onnx_bn: BatchNormForm,
    /// Network class a .pt is for: jempp-yopo, jempp-wrn, jem, sada-jem
    ///
    /// The .pt then loads into that class of the published code with strict=True: jempp-yopo and jempp-wrn are JEM++'s with
    /// `--model yopo` and `--model wrn`. By default the class that IN came from, or jempp-yopo.
    #[arg(long = "for", value_enum, value_name = "CLASS", hide_possible_values = true)]
    pub target: Option<NetworkClass>,
    /// Recompute batch norm statistics on this data set
    ///
    /// By name or path; its training images are used.
    #[arg(long, value_name = "DATA")]
    pub recalibrate: Option<String>,
    /// Class means, to start chains from (with --cov)
    #[arg(long, value_name = "FILE.pt", requires = "cov", help_heading = PUBLISHED)]
    pub mean: Option<PathBuf>,
    /// Class covariances (with --mean)
    #[arg(long, value_name = "FILE.pt", requires = "mean", help_heading = PUBLISHED)]
    pub cov: Option<PathBuf>,
    /// Norm, where shapes are ambiguous: instance or layer
    #[arg(long, value_enum, hide_possible_values = true, help_heading = PUBLISHED)]
    pub norm: Option<NormName>,
    /// Image size, if IN has no replay buffer [default: 32 32]
    #[arg(long, num_args = 2, value_names = ["H", "W"], help_heading = PUBLISHED)]
    pub image_size: Option<Vec<usize>>,
}

/// Format of a model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    /// The native format
    Safetensors,
    /// A checkpoint for PyTorch
    Pt,
    /// A graph for onnxruntime and others
    Onnx,
}

/// What becomes of batch norm in ONNX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BatchNormForm {
    /// Folded into convolutions where possible, else a scale and a shift
    Fold,
    /// Kept as BatchNormalization nodes
    Keep,
}

/// A network class of published code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkClass {
    /// JEM
    Jem,
    /// JEM++ with --model yopo
    JemppYopo,
    /// JEM++ with --model wrn
    JemppWrn,
    /// SADA-JEM
    SadaJem,
}

/// Norms whose parameters have the same shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NormName {
    /// Over each channel of each image
    Instance,
    /// Over each image
    Layer,
}
