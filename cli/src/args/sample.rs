//! Arguments of `sample` and `predict`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Arguments of `sample`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli sample --model runs/train-001                        a hundred images as samples-001.png
  jempp-cli sample --model runs/train-001 --by-class             one row a class
  jempp-cli sample --model runs/train-001 --class 3 --n 20 --grid threes.png
  jempp-cli sample --model runs/train-001 --start buffer         go on from the chains of the training
  jempp-cli sample --model runs/train-001 --by-class --start noise --steps 100 --gif digits.gif
  jempp-cli sample --model model.safetensors --n 5000 --output samples.npz

An .npz holds images (n×H×W×C, in [-1, 1]), labels, log_density and confidence, which is p(label|x). The label is the
class that the chain followed, or else the one that the model sees.")]
pub struct Sample {
    /// Run folder, checkpoint folder or model file
    #[arg(short, long, value_name = "PATH")]
    pub model: PathBuf,
    /// Images
    #[arg(short, long, default_value_t = 100)]
    pub n: usize,
    /// Outer steps: gradient evaluations of each chain [default: as many as a round of training has]
    #[arg(long)]
    pub steps: Option<u32>,
    /// Follow log p(x, y) of this class instead of log p(x)
    #[arg(long, value_name = "K", conflicts_with = "by_class")]
    pub class: Option<i32>,
    /// Share the images out over all classes (as many of each, rounded up), a row of the grid each
    #[arg(long)]
    pub by_class: bool,
    /// Where chains start
    #[arg(long, value_enum, default_value_t = StartName::Bank)]
    pub start: StartName,
    /// Write the images side by side as a PNG, which must not exist
    #[arg(long, value_name = "FILE.png")]
    pub grid: Option<PathBuf>,
    /// Write images and scores as arrays; the file must not exist. Without any of the three, a grid samples-NNN.png is
    /// written here
    #[arg(short, long, value_name = "FILE.npz")]
    pub output: Option<PathBuf>,
    /// Write the chains on their way as an animation, which must not exist
    #[arg(long, value_name = "FILE.gif")]
    pub gif: Option<PathBuf>,
    /// Outer steps from frame to frame of it [default: so many that there are at most 51 frames]
    #[arg(long, value_name = "STEPS", requires = "gif")]
    pub gif_every: Option<u32>,
    /// Size of an inner step [default: as in training]
    #[arg(long)]
    pub step_size: Option<f64>,
    /// Inner steps with each gradient [default: as in training]
    #[arg(long)]
    pub inner: Option<usize>,
    /// Bound on each component of the gradient; 0 for none [default: as in training]
    #[arg(long)]
    pub clip: Option<f64>,
    /// Standard deviation of the noise after the inner steps [default: as in training]
    #[arg(long)]
    pub noise: Option<f64>,
}

/// Where chains start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StartName {
    /// Draws from the law of each class, which the model carries
    Bank,
    /// Chains of the training, from the checkpoint's replay buffer
    Buffer,
    /// Fresh draws from the law of each class of the training images, which are read again
    Data,
    /// Uniform noise
    Noise,
}

impl StartName {
    /// Its name in results.
    pub fn words(self) -> &'static str {
        match self {
            Self::Bank => "class draws of the model",
            Self::Buffer => "the replay buffer",
            Self::Data => "class draws of the training images",
            Self::Noise => "uniform noise",
        }
    }
}

/// Arguments of `predict`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli predict --model runs/train-001 --input digit.png              a line of JSON
  jempp-cli predict --model runs/train-001 --input a.png b.png --input-grad --label 3
  jempp-cli predict --model runs/train-001 --input images.npz --output scores.npz

An input .npz holds `images`, N×H×W×C: float32 in [-1, 1] or uint8. An output .npz holds logits, probs, log_density
and, with --input-grad, input_grad (N×H×W×C), all float32. A model with thresholds (`eval thresholds`) also gives the
calibrated probability of its label, the p-value of log p(x) among data, and whether to abstain.")]
pub struct Predict {
    /// Run folder, checkpoint folder or model file
    #[arg(short, long, value_name = "PATH")]
    pub model: PathBuf,
    /// Archives of images, or image files (PNG, JPEG) of the model's size
    #[arg(short, long, value_name = "FILE", num_args = 1.., required = true)]
    pub input: Vec<PathBuf>,
    /// Write here instead of to standard output; the file must not exist
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Give the gradient of log p(x) at each image, too
    #[arg(long)]
    pub input_grad: bool,
    /// Give the gradient of the logit of these classes instead: one for all images, or one each
    #[arg(long, value_name = "K", num_args = 1.., requires = "input_grad")]
    pub label: Vec<i32>,
    /// Form of the output [default: by the name of the output; on standard output jsonl]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
}

/// Form of predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Arrays
    Npz,
    /// One JSON object an image and line
    Jsonl,
}
