//! Options that several evaluations share.

use crate::args::headings::{DATA, OUTPUT};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SplitName {
    /// Test images
    Test,
    /// Validation images, held back from training
    Valid,
    /// Training images
    Train,
}

/// The model to evaluate and the images to evaluate it on.
#[derive(Args, Debug)]
#[command(next_help_heading = DATA)]
pub(crate) struct EvalTarget {
    /// Run folder, checkpoint folder or model file
    #[arg(short, long, value_name = "PATH")]
    pub model: PathBuf,
    /// Data set, by name or path [default: the one trained on]
    #[arg(long, value_name = "NAME")]
    pub data: Option<String>,
    /// Split to evaluate: test, valid or train
    #[arg(long, value_enum, default_value_t = SplitName::Test, hide_possible_values = true)]
    pub split: SplitName,
    /// Evaluate only N images, drawn at random
    #[arg(short, long)]
    pub n: Option<usize>,
}

/// Where the numbers go.
#[derive(Args, Debug)]
#[command(next_help_heading = OUTPUT)]
pub(crate) struct EvalOutput {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Write JSON and SVG files to this folder
    ///
    /// Finished parts are kept there, too, so that an interrupted evaluation continues where it stopped.
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
