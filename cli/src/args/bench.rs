//! Arguments of `bench`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Arguments of `bench`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli bench train-step
  jempp-cli bench sample-step --batch 1 --batch 64
  jempp-cli bench ops conv2d/forward
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
    /// Time one step of the sampler at several batch sizes
    SampleStep(SampleStep),
    /// Time every op at the shapes of real networks, beside what the machine can do at most
    Ops(Ops),
}

/// Arguments of `bench ops`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli bench ops                          all ops at the shapes of WRN-16-2, WRN-28-10 and the digits' network
  jempp-cli bench ops conv2d                   only cases whose 'op/case' contains it
  jempp-cli bench ops --filter bn_ --threads 1
  JEMPP_SIMD=avx2 jempp-cli bench ops linear --json

The rate is GFLOP/s where multiply-adds would be the limit, and GB/s where memory would be. The ceilings are measured in
the same run, with as many threads: multiply-adds in registers, and copies of as many bytes.")]
pub struct Ops {
    /// Only cases whose 'op/case' contains this
    #[arg(value_name = "FILTER")]
    pub only: Option<String>,
    /// The same
    #[arg(long, value_name = "FILTER", conflicts_with = "only")]
    pub filter: Option<String>,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench sample-step`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli bench sample-step                            a Wide-ResNet 16-2 on 32×32 images, 1 to 128 chains
  jempp-cli bench sample-step preset=digits --batch 64
  jempp-cli bench sample-step preset=jempp --steps 3 --json

A step is one forward pass, the gradient with respect to the images, and the move. Without a file or a preset the published
setting is taken, with model.depth=16 and model.widen_factor=2.")]
pub struct SampleStep {
    /// Configuration in TOML
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Chains that move together; may be given several times
    #[arg(long, value_name = "N", default_values_t = [1, 8, 16, 32, 64, 128])]
    pub batch: Vec<usize>,
    /// Steps to time at each
    #[arg(long, default_value_t = 10)]
    pub steps: usize,
    /// Steps before, not timed
    #[arg(long, default_value_t = 2)]
    pub warmup: usize,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Changes to the configuration, such as model.depth=28
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
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
