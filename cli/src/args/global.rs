//! Options that every command has.

use super::headings::GLOBAL;
use clap::{ArgAction, Args, ValueEnum};

/// Options of every subcommand.
#[derive(Args, Debug)]
#[command(next_help_heading = GLOBAL)]
pub(crate) struct Global {
    /// auto (the CPU), cpu or cuda:N
    ///
    /// Where to compute. GPU support has so far been tested by emulation only, so auto is the CPU and a GPU must be named. `jempp-cli
    /// devices` lists what is available.
    #[arg(long, global = true, default_value = "auto", value_name = "DEVICE")]
    pub device: String,
    /// f32, bf16, or tf32 on a GPU
    ///
    /// What the network computes with. f32 is float32; tf32 is TensorFloat-32 products, on a GPU.
    ///
    /// bf16 on the CPU rounds the inputs of convolutions and linear layers to bfloat16 where that is faster, and keeps
    /// float32 in memory; without AVX512_BF16 it is slower than f32. On a GPU, activations and filters are bfloat16.
    ///
    /// Sums, statistics, energies, losses and master weights are always float32.
    #[arg(long, global = true, value_enum, default_value_t = Precision::F32, value_name = "PRECISION")]
    #[arg(hide_possible_values = true)]
    pub precision: Precision,
    /// own or cudnn: whose kernels compute batch norm on a GPU
    ///
    /// own reads and writes the activations less often, as it takes the residual sum before it and the leaky ReLU after it
    /// along; cudnn calls cuDNN's batch norm for each group of images. Results differ by rounding. Only `train` has batch
    /// norm in train mode; other commands do not depend on it, nor do other norms.
    #[arg(long, global = true, value_enum, default_value_t = BatchNorm::Own, value_name = "BY")]
    #[arg(hide_possible_values = true, hide_short_help = true)]
    pub batch_norm: BatchNorm,
    /// On a GPU, run nothing beside the chain steps
    ///
    /// In training, the pass over data and labelled images does not depend on the chains; in a CUDA graph it runs beside their
    /// steps on a second stream, which needs memory for another set of gradients. With this option, and where an option of the
    /// training rules it out, one pass for all images comes after the steps.
    #[arg(long, global = true, hide_short_help = true)]
    pub one_stream: bool,
    /// CPU threads; 0 for all cores
    ///
    /// Results do not depend on it.
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// Random seed [default: the configuration's]
    ///
    /// For `train`, the same as the override seed=N.
    #[arg(long, global = true, value_name = "N")]
    pub seed: Option<u64>,
    /// Log more messages; -vv for debug messages
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Print only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log format: text or json
    ///
    /// For progress and messages on standard error: text is a progress bar on a terminal and plain lines elsewhere,
    /// json one JSON object per line.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    #[arg(hide_possible_values = true, hide_short_help = true)]
    pub log_format: LogFormat,
    /// Print help; --help says more
    #[arg(short, long, global = true, action = ArgAction::Help)]
    help: Option<bool>,
    /// Print the version
    #[arg(short = 'V', long, global = true, action = ArgAction::Version)]
    version: Option<bool>,
}

/// What networks compute with; sums, statistics, energies, losses and master weights are always float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// Float32.
    F32,
    /// TensorFloat-32 products, on a GPU.
    Tf32,
    /// On the CPU bfloat16 products; on a GPU activations and filters in bfloat16.
    Bf16,
}

/// Whose kernels compute batch norm in train mode on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BatchNorm {
    /// The project's own.
    Own,
    /// cuDNN's.
    Cudnn,
}

/// Format of progress and log messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people: a progress bar on a terminal, plain lines elsewhere.
    Text,
    /// One JSON object per line, on standard error.
    Json,
}
