//! Arguments of `sample`.

use super::headings::OUTPUT;
use super::number;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Heading of the sampler's options.
const SAMPLING: &str = "Sampling";

/// Arguments of `sample`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli sample -m runs/train-001              a hundred images
  jempp-cli sample -m runs/train-001 --by-class   one row per class")]
#[command(after_long_help = "Examples:
  jempp-cli sample -m runs/train-001                  a hundred images
  jempp-cli sample -m runs/train-001 --by-class       one row per class
  jempp-cli sample -m runs/train-001 --class cat -n 20 --grid cats.png
  jempp-cli sample -m runs/train-001 --images drawn   one file per image
  jempp-cli sample -m runs/train-001 --start noise --steps 100 --gif digits.gif
  jempp-cli sample -m model.safetensors -n 5000 -o samples.npz

The .npz file holds images (n×H×W×C, in [-1, 1]), labels, log_density and confidence, which is p(label|x). The label is the
class that the chain was conditioned on, or else the predicted one.")]
pub(crate) struct Sample {
    /// Run folder, checkpoint folder or model file
    #[arg(short, long, value_name = "PATH")]
    pub model: PathBuf,
    /// Images to draw
    #[arg(short, long, default_value_t = 100)]
    pub n: usize,
    /// Sample this class, from p(x, y), instead of from p(x)
    ///
    /// Its name, or its number, counted from 0. A name comes first, if names are numbers, too.
    #[arg(long, value_name = "NAME", conflicts_with = "by_class")]
    pub class: Option<String>,
    /// As many images of every class, one grid row each
    ///
    /// -n is rounded up to a multiple of the number of classes.
    #[arg(long)]
    pub by_class: bool,
    /// Chain starts: buffer, informative, data, noise [default: buffer]
    ///
    /// Without a buffer in the model, informative.
    ///
    /// informative: samples of the class Gaussians stored in the model (informative initialization of JEM++).
    ///
    /// buffer: images of the replay buffer in the checkpoint.
    ///
    /// data: fresh samples of Gaussians fitted to the training images of each class.
    ///
    /// noise: uniform noise.
    #[arg(long, value_enum, help_heading = SAMPLING, hide_possible_values = true)]
    pub start: Option<StartName>,
    /// Batch-norm statistics of the chains: batch, running
    ///
    /// batch: those of the 64 chains that run together, as in training. A chain then depends on the others.
    ///
    /// running: those with which the model classifies. Long chains leave the data there.
    #[arg(long, value_enum, default_value_t = BnName::Batch, help_heading = SAMPLING)]
    #[arg(hide_possible_values = true)]
    pub bn: BnName,
    /// Langevin steps [default: as in training]
    ///
    /// Outer steps: each takes one gradient evaluation per chain. More steps than in a round of training are finer steps, and
    /// go as far; --step-size, or a start from noise, makes them go farther.
    #[arg(long, value_name = "N", help_heading = SAMPLING)]
    pub steps: Option<u32>,
    /// Inner steps per gradient [default: as in training]
    #[arg(long, alias = "inner", value_name = "N", help_heading = SAMPLING)]
    pub inner_steps: Option<usize>,
    /// Size of an inner step [default: as in training]
    #[arg(long, value_name = "SIZE", value_parser = number, help_heading = SAMPLING)]
    pub step_size: Option<f64>,
    /// Gradient bound; 0: none [default: as in training]
    ///
    /// Each component of the gradient is clipped to ± this.
    #[arg(long, value_name = "BOUND", help_heading = SAMPLING)]
    pub clip: Option<f64>,
    /// Std. dev. of noise [default: as in training]
    ///
    /// Gaussian noise, added after the inner steps.
    #[arg(long, value_name = "STD", help_heading = SAMPLING)]
    pub noise: Option<f64>,
    /// Write a grid of the images (a new file)
    ///
    /// Without --grid, --images, --output and --gif, the grid is written to samples-NNN.png in the current folder.
    #[arg(long, value_name = "FILE.png", help_heading = OUTPUT)]
    pub grid: Option<PathBuf>,
    /// Write each image as a PNG file to this new folder
    ///
    /// The files are named by number and class, as in 00012-cat.png.
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    pub images: Option<PathBuf>,
    /// Write images and scores as arrays (a new file)
    #[arg(short, long, value_name = "FILE.npz", help_heading = OUTPUT)]
    pub output: Option<PathBuf>,
    /// Write an animation of the chains (a new file)
    #[arg(long, value_name = "FILE.gif", help_heading = OUTPUT)]
    pub gif: Option<PathBuf>,
    /// Steps between frames [default: at most 51 frames]
    #[arg(long, value_name = "N", requires = "gif", help_heading = OUTPUT)]
    pub gif_every: Option<u32>,
}

/// Where chains start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StartName {
    /// Samples of the class Gaussians stored in the model
    #[value(alias = "bank")]
    Informative,
    /// The replay buffer of the checkpoint
    Buffer,
    /// Fresh samples of Gaussians fitted to the training images of each class
    Data,
    /// Uniform noise
    Noise,
}

/// Batch-norm statistics of chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BnName {
    /// Those of the chains that run together
    Batch,
    /// The model's own
    Running,
}
