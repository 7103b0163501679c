//! Arguments of `report`.

use clap::Args;
use std::path::PathBuf;

/// Arguments of `report`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli report runs/train-001                             its report.html
  jempp-cli report runs/jempp runs/softmax -o compared.html   side by side")]
#[command(after_long_help = "Examples:
  jempp-cli report runs/train-001                             its report.html
  jempp-cli report runs/jempp runs/softmax -o compared.html   side by side
  jempp-cli report runs/train-001 --json

The page shows the training curves and the results of `eval all`. It is one self-contained file without scripts.")]
pub(crate) struct Report {
    /// Run folders
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Page to write (a new file) [default: RUN/report.html]
    ///
    /// Required for several runs. The default replaces a report.html that is already there.
    #[arg(short, long, value_name = "FILE.html")]
    pub output: Option<PathBuf>,
    /// Print one JSON array instead of writing a page
    #[arg(long)]
    pub json: bool,
}
