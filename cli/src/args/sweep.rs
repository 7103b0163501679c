//! Arguments of `sweep`.

use super::headings::OUTPUT;
use super::train::{Seeds, duration};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `sweep`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli sweep train.lr=0.05,0.1,0.2
  jempp-cli sweep train.lr=0.05,0.1 data.sigma=0.05,0.1 --seeds 0..2
  jempp-cli sweep --resume runs/sweep-001")]
#[command(after_long_help = "Examples:
  jempp-cli sweep train.lr=0.05,0.1,0.2                 three runs
  jempp-cli sweep train.lr=0.05,0.1 --seeds 0..2        six runs
  jempp-cli sweep 'train.decay_epochs=[10, 20],[15]'    values that are lists
  jempp-cli sweep -c run.toml train.lr=0.05,0.1 train.epochs=20
  jempp-cli sweep --resume runs/sweep-001               go on after a stop

Each combination of values is a run in a folder of its own, one after another. At the end there is a table with one row per
setting, also as report.html: means and standard deviations over the seeds. A run that diverges is a row that says so. Hold
out validation images (data.valid_size) and choose by their accuracy, not by that of the test images.")]
pub(crate) struct Sweep {
    /// Configuration file in TOML
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Train each setting with several seeds, as 0..4 or 3,5,8
    #[arg(long, value_name = "SEEDS", value_parser = Seeds::parse, conflicts_with = "seed")]
    pub seeds: Option<Seeds>,
    /// Go on with an interrupted sweep; runs that ended are kept
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "seeds", "out", "settings"])]
    pub resume: Option<PathBuf>,
    /// Stop each run after this time (90s, 15m, 2h)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_time: Option<Duration>,
    /// Run at most N iterations per epoch
    #[arg(long, value_name = "N")]
    pub limit_batches: Option<u64>,
    /// Folder to create [default: the next runs/sweep-NNN]
    #[arg(short, long, value_name = "DIR", help_heading = OUTPUT)]
    pub out: Option<PathBuf>,
    /// Print the results as one JSON array on standard output
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
    /// Keys with one value or several, such as train.lr=0.05,0.1
    #[arg(value_name = "KEY=A,B,C", required_unless_present = "resume")]
    pub settings: Vec<String>,
}
