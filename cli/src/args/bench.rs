//! Arguments of `bench`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Arguments of `bench`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli bench train-step
  jempp-cli bench train-step --help")]
pub struct Bench {
    /// What to measure.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// The measurements.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Time whole training iterations of any configuration on synthetic images
    TrainStep(TrainStep),
}

/// Arguments of `bench train-step`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli bench train-step                             a Wide-ResNet 16-2 on 32×32 images
  jempp-cli bench train-step preset=jempp --iters 3      the published setting
  jempp-cli bench train-step preset=digits --threads 1
  jempp-cli bench train-step --profile                   and where its time goes, op by op
  jempp-cli bench train-step model.depth=16 model.widen_factor=2 train.batch_size=64 sampler.outer_steps=5 --json

Without a file or a preset the published setting is taken, with model.depth=16 and model.widen_factor=2. The images are
noise of model.image_size; the data set of the configuration is not read.")]
pub struct TrainStep {
    /// Configuration in TOML
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Iterations to time
    #[arg(long, default_value_t = 10)]
    pub iters: usize,
    /// Iterations before, not timed
    #[arg(long, default_value_t = 2)]
    pub warmup: usize,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Say where the time goes, op by op, over as many iterations again (with --json part of the line)
    #[arg(long)]
    pub profile: bool,
    /// Print the planned programs first (with --json on standard error)
    #[arg(long)]
    pub dump: bool,
    /// Changes to the configuration, such as train.batch_size=16
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}
