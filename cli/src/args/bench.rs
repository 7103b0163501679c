//! Arguments of `bench`.

use super::headings::OUTPUT;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Arguments of `bench`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli bench train-step
  jempp-cli bench sample-step --batch 1 --batch 64
  jempp-cli bench ops conv2d/forward")]
pub(crate) struct Bench {
    /// What to measure.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// The measurements.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Time whole training iterations on synthetic images
    TrainStep(TrainStep),
    /// Time one Langevin step at several batch sizes
    SampleStep(SampleStep),
    /// Time each op against the limits of the machine
    Ops(Ops),
}

/// Arguments of `bench ops`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli bench ops                  every op
  jempp-cli bench ops conv2d/forward   only cases whose op/case contains this
  JEMPP_SIMD=avx2 jempp-cli bench ops linear --threads 1 --json")]
#[command(after_long_help = "Examples:
  jempp-cli bench ops                  every op
  jempp-cli bench ops conv2d/forward   only cases whose op/case contains this
  JEMPP_SIMD=avx2 jempp-cli bench ops linear --threads 1 --json

Shapes are those of WRN-16-2, WRN-28-10 and the digits network. Rates are in GFLOP/s where arithmetic is the limit and in
GB/s where memory is. The limits are measured in the same run with the same number of threads: multiply-adds in registers,
and copies of the same size.")]
pub(crate) struct Ops {
    /// Only cases whose op/case contains this
    #[arg(value_name = "FILTER")]
    pub only: Option<String>,
    /// Only cases whose op/case contains this (older form of the argument)
    #[arg(long, value_name = "FILTER", conflicts_with = "only", hide = true)]
    pub filter: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench sample-step`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli bench sample-step   WRN-16-2, 1 to 128 chains
  jempp-cli bench sample-step preset=digits --batch 64
  jempp-cli bench sample-step preset=jempp --steps 3 --json")]
#[command(after_long_help = "Examples:
  jempp-cli bench sample-step   WRN-16-2, 1 to 128 chains
  jempp-cli bench sample-step preset=digits --batch 64
  jempp-cli bench sample-step preset=jempp --steps 3 --json

A step is one forward pass, the gradient with respect to the images, and the update. Without a file or a preset, the preset
jempp is used with model.depth=16 and model.widen_factor=2.")]
pub(crate) struct SampleStep {
    /// Configuration file in TOML
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Chains per batch; repeatable
    #[arg(long, value_name = "N", default_values_t = [1, 8, 16, 32, 64, 128])]
    pub batch: Vec<usize>,
    /// Steps to time at each batch size
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub steps: usize,
    /// Untimed steps before them
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub warmup: usize,
    /// Print one JSON object
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
    /// Configuration overrides, such as model.depth=28
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

/// Arguments of `bench train-step`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli bench train-step                          WRN-16-2, 32×32 images
  jempp-cli bench train-step preset=jempp --iters 3   as published: WRN-28-10
  jempp-cli bench train-step --profile                time per op, too")]
#[command(after_long_help = "Examples:
  jempp-cli bench train-step                          WRN-16-2, 32×32 images
  jempp-cli bench train-step preset=jempp --iters 3   as published: WRN-28-10
  jempp-cli bench train-step --profile                time per op, too
  jempp-cli bench train-step preset=digits --threads 1
  jempp-cli bench train-step train.batch_size=16 sampler.outer_steps=5 --json

Without a file or a preset, the preset jempp is used with model.depth=16 and model.widen_factor=2. Images are random noise of
model.image_size; no data set is read.")]
pub(crate) struct TrainStep {
    /// Configuration file in TOML
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Iterations to time
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub iters: usize,
    /// Untimed iterations before them
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub warmup: usize,
    /// Also time each op, over as many further iterations
    #[arg(long)]
    pub profile: bool,
    /// Print the compiled programs first
    ///
    /// With --json they go to standard error.
    #[arg(long, alias = "dump", help_heading = OUTPUT)]
    pub print_plan: bool,
    /// Print one JSON object
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
    /// Configuration overrides, such as train.batch_size=16
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}
