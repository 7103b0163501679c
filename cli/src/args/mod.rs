//! What the command line takes: one struct per subcommand. What the arguments do is in `commands`.
//!
//! Every command has a short help (`-h`, one line per option, one to three examples) and a long one (`--help`). Options
//! of a command come first; those of all commands follow under [`headings::GLOBAL`]. `help_tests` holds all of that in place.

mod bench;
mod convert;
mod eval;
mod global;
mod headings;
#[cfg(test)]
mod help_tests;
mod inspect;
mod predict;
mod report;
mod sample;
mod sweep;
mod train;
mod usage;

pub(crate) use bench::{Bench, BenchCommand, Ops, SampleStep, TrainStep};
pub(crate) use convert::{BatchNormForm, Convert, FileFormat, NetworkClass, NormName};
pub(crate) use eval::{
    Accuracy, All, Attack, AttackNorm, Calibration, Eval, EvalCommand, EvalOutput, EvalTarget, Fid,
    InceptionOptions, Ood, ResizeName, SplitName, Thresholds, VariantName,
};
pub(crate) use global::{BatchNorm, Global, LogFormat, Precision};
pub(crate) use inspect::{Devices, Inspect};
pub(crate) use predict::{FloatRange, Format, Predict, Resizing};
pub(crate) use report::Report;
pub(crate) use sample::{BnName, Sample, StartName};
pub(crate) use sweep::Sweep;
pub(crate) use train::{Seeds, Train};
pub(crate) use usage::parse;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

/// Train, sample from and evaluate joint energy-based models (JEM++).
#[derive(Debug, Parser)]
#[command(name = "jempp-cli", version, propagate_version = true, arg_required_else_help = true)]
#[command(disable_help_flag = true, disable_version_flag = true)]
#[command(after_help = "\
Examples:
  jempp-cli train                      train on the built-in digits
  jempp-cli sample -m runs/train-001   draw new images from that model
  jempp-cli train --help               all options of a command")]
#[command(after_long_help = "\
Examples:
  jempp-cli train                        train on the built-in digits
  jempp-cli sample -m runs/train-001     draw new images from that model
  jempp-cli eval all -m runs/train-001   evaluate it, with an HTML report
  jempp-cli train --help                 all options of a command

Exit codes:
    0  success                          5  training or sampling diverged
    1  internal error                   6  corrupt file
    2  wrong usage                      7  input/output error
    3  invalid configuration or data  130  interrupted (Ctrl-C), after saving
    4  device missing or failed       143  terminated (SIGTERM), after saving")]
pub(crate) struct Cli {
    /// Options of every subcommand.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a model; without arguments, on the built-in digits
    Train(Train),
    /// Train once for each combination of values of some keys
    Sweep(Sweep),
    /// Draw new images from a trained model
    Sample(Sample),
    /// Classify images: logits, p(y|x), log p(x), input gradients
    Predict(Predict),
    /// Evaluate a trained model
    Eval(Eval),
    /// Convert a model to safetensors, PyTorch or ONNX
    Convert(Convert),
    /// Write the results of one or more runs as an HTML page
    Report(Report),
    /// Show what a run, a checkpoint or a model file contains
    Inspect(Inspect),
    /// List the CPU, the GPUs and the CUDA libraries found
    Devices(Devices),
    /// Measure speed on this machine
    Bench(Bench),
    /// Print a shell completion script
    Completions(Completions),
    /// Write the man pages to a folder
    #[command(hide = true)]
    Man(Man),
}

/// Arguments of `completions`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli completions bash > ~/.local/share/bash-completion/completions/jempp-cli
  jempp-cli completions zsh > ~/.zfunc/_jempp-cli
  jempp-cli completions fish > ~/.config/fish/completions/jempp-cli.fish")]
pub(crate) struct Completions {
    /// Shell to complete for
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli man share/man/man1")]
pub(crate) struct Man {
    /// An existing folder
    #[arg(value_name = "DIR")]
    pub folder: std::path::PathBuf,
}

/// Reads a decimal number or a fraction such as 8/255.
fn number(text: &str) -> Result<f64, String> {
    jempp::data::config::fraction::number(text)
        .ok_or_else(|| "not a number or a fraction such as 8/255".to_owned())
}
