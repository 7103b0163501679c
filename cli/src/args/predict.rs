//! Arguments of `predict`.

use super::headings::OUTPUT;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Arguments of `predict`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli predict -m runs/train-001 -i digit.png   one line of JSON
  jempp-cli predict -m runs/train-001 -i images.npz -o scores.npz
  jempp-cli predict -m runs/train-001 -i photos --resize crop -o scores.csv")]
#[command(after_long_help = "Examples:
  jempp-cli predict -m runs/train-001 -i digit.png   one line of JSON
  jempp-cli predict -m runs/train-001 -i images.npz -o scores.npz
  jempp-cli predict -m runs/train-001 -i photos --resize crop -o scores.csv
  jempp-cli predict -m runs/train-001 -i a.png b.png --input-grad --label 3

An input .npz or .npy holds images, N×H×W×C or N×H×W: uint8, or floats in [-1, 1] (--range); labels beside them are not read.
An output .npz holds logits, probs, log_density and,
with --input-grad, input_grad (N×H×W×C), all float32. A model with thresholds (`eval thresholds`) also gives the calibrated
probability of the predicted label, the p-value of log p(x), and whether to abstain.")]
pub(crate) struct Predict {
    /// Run folder, checkpoint folder or model file
    #[arg(short, long, value_name = "PATH")]
    pub model: PathBuf,
    /// Image files, folders of them, .npz or .npy
    ///
    /// PNG, JPEG, GIF, BMP, WebP and TIFF; a folder stands for the images in it and below, and a quoted pattern ("*.png") for the
    /// files that match. Images must have the size that the model was trained on, unless --resize is given or the model was
    /// trained with data.resize.
    #[arg(short, long, value_name = "FILE", num_args = 1.., required = true)]
    pub input: Vec<PathBuf>,
    /// Scale images of other sizes: crop or squash
    ///
    /// crop scales the largest central part of the wanted shape, squash the whole image. The filter is the model's
    /// data.resize_filter.
    #[arg(long, value_enum, value_name = "MODE", hide_possible_values = true)]
    pub resize: Option<Resizing>,
    /// Range of floats in .npz and .npy [default: -1,1]
    ///
    /// -1,1 or 0,1 or 0,255.
    #[arg(
        long,
        value_enum,
        value_name = "LOW,HIGH",
        allow_hyphen_values = true,
        hide_possible_values = true
    )]
    pub range: Option<FloatRange>,
    /// MiB that any .npz may unpack to [default: 64]
    ///
    /// Beyond that an archive may unpack to 16 times its length. A bound on the memory that a hostile file can take.
    #[arg(long, value_name = "MIB")]
    pub unpack_limit: Option<u64>,
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
    /// jsonl, csv or npz [default: by the extension of --output]
    ///
    /// jsonl is one JSON object per image and line, csv a table with a line per image, npz an archive of NumPy arrays. On standard
    /// output it is jsonl.
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
    /// One line of a table per image
    Csv,
}

/// What is done with images of other sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Resizing {
    /// The largest central part is scaled
    Crop,
    /// The whole image is scaled
    Squash,
}

/// What floats range over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FloatRange {
    /// As the inputs of networks
    #[value(name = "-1,1")]
    Signed,
    /// As torchvision's tensors
    #[value(name = "0,1")]
    Unit,
    /// As bytes
    #[value(name = "0,255")]
    Byte,
}
