//! What the command line takes. One struct a subcommand; what they mean is in `commands`.

use clap::{Args, Parser, Subcommand, ValueEnum};
use engine::Device;
use jempp::{Error, Result};
use std::path::PathBuf;

/// Train, sample and judge joint energy-based models (JEM++).
#[derive(Debug, Parser)]
#[command(name = "jempp-cli", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Start with:\n  jempp-cli train                 train a small model on the built-in digits (about a minute)\n  jempp-cli train --help          all that training takes"
)]
pub struct Cli {
    /// Options of every subcommand.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every subcommand.
#[derive(Args, Debug)]
pub struct Global {
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, global = true, default_value = "auto", value_name = "DEVICE")]
    pub device: String,
    /// CPU threads; 0 means one a core. Results do not depend on it
    #[arg(long, global = true, default_value_t = 0)]
    pub threads: usize,
    /// Seed of all randomness (of `train`: the same as seed=N)
    #[arg(long, global = true)]
    pub seed: Option<u64>,
    /// More on standard error; twice for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// How progress is written
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How progress is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people: a progress bar on a terminal, else plain lines.
    Text,
    /// One JSON object a line, on standard error.
    Json,
}

impl Global {
    /// The device asked for.
    ///
    /// # Errors
    /// [`Error::Device`] for a GPU that is not there or a name that is none.
    pub fn device(&self) -> Result<Device> {
        match self.device.as_str() {
            "auto" | "cpu" => Device::cpu_from_env(self.threads).map_err(Error::Config),
            name if name.starts_with("cuda") => Err(Error::Device(format!(
                "--device {name}: this version computes on the CPU only; use --device cpu or auto \
                 (`jempp-cli devices` shows what was found)"
            ))),
            name => Err(Error::Device(format!("--device {name}: use auto, cpu or cuda:N"))),
        }
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model; without arguments a small one on the built-in digits
    Train(Train),
}

/// Arguments of `train`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli train                                      the built-in digits, about a minute on two cores
  jempp-cli train --seed 1 train.epochs=20             shorter, another seed
  jempp-cli train train.p_x_weight=0                   the plain softmax classifier
  jempp-cli train -c run.toml train.lr=0.05            a configuration with one change
  jempp-cli train --print-config > run.toml            every key with its meaning, to start from
  jempp-cli train --dry-run preset=jempp               what the published setting would cost")]
pub struct Train {
    /// Configuration in TOML; keys it leaves out keep the preset's defaults
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Run folder, which must not exist; by default the next free runs/train-NNN
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the resolved configuration and stop
    #[arg(long)]
    pub print_config: bool,
    /// Print parameters, memory, FLOPs and iterations, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as one JSON object on standard output
    #[arg(long)]
    pub json: bool,
    /// Changes to the configuration, such as train.lr=0.05
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}
