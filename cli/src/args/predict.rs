//! Arguments of `predict`.

use super::headings::OUTPUT;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Arguments of `predict`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli predict -m runs/train-001 -i digit.png   one line of JSON
  jempp-cli predict -m runs/train-001 -i images.npz -o scores.npz")]
#[command(after_long_help = "Examples:
  jempp-cli predict -m runs/train-001 -i digit.png   one line of JSON
  jempp-cli predict -m runs/train-001 -i images.npz -o scores.npz
  jempp-cli predict -m runs/train-001 -i a.png b.png --input-grad --label 3

An input .npz holds `images`, N×H×W×C: float32 in [-1, 1] or uint8. An output .npz holds logits, probs, log_density and,
with --input-grad, input_grad (N×H×W×C), all float32. A model with thresholds (`eval thresholds`) also gives the calibrated
probability of the predicted label, the p-value of log p(x), and whether to abstain.")]
pub(crate) struct Predict {
    /// Run folder, checkpoint folder or model file
    #[arg(short, long, value_name = "PATH")]
    pub model: PathBuf,
    /// Image files (PNG, JPEG) or archives (.npz)
    ///
    /// Images must have the size that the model was trained on.
    #[arg(short, long, value_name = "FILE", num_args = 1.., required = true)]
    pub input: Vec<PathBuf>,
    /// Also give ∂log p(x)/∂x for each image
    #[arg(long)]
    pub input_grad: bool,
    /// Gradient for class K instead; one K, or one per image
    ///
    /// That is the gradient of the logit of class K, or, for a model with an energy head, of log p(x) + log p(K|x).
    #[arg(long, value_name = "K", num_args = 1.., requires = "input_grad")]
    pub label: Vec<i32>,
    /// Write to this new file instead of standard output
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub output: Option<PathBuf>,
    /// jsonl or npz [default: by the extension of --output]
    ///
    /// jsonl is one JSON object per image and line, npz an archive of NumPy arrays. On standard output it is jsonl.
    #[arg(long, value_enum, hide_possible_values = true, help_heading = OUTPUT)]
    pub format: Option<Format>,
}

/// Format of predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// NumPy archive
    Npz,
    /// One JSON object per image and line
    Jsonl,
}
