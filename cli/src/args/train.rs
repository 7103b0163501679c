//! Arguments of `train`.

use clap::Args;
use std::path::PathBuf;

/// Arguments of `train`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli train                                      the built-in digits, about a minute on two cores
  jempp-cli train --seed 1 train.epochs=20             shorter, another seed
  jempp-cli train train.p_x_weight=0                   the plain softmax classifier, without chains
  jempp-cli train -c run.toml train.lr=0.05            a configuration with one change
  jempp-cli train --print-config > run.toml            every key with its meaning, to start from
  jempp-cli train --dry-run model.widen_factor=4       what a wider network would cost")]
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
