//! Arguments of `eval all`.

use super::fid::InceptionOptions;
use crate::args::headings::{DATA, OUTPUT};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `eval all`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval all -m runs/train-001   report.html
  jempp-cli eval all -m runs/jempp --ood-data svhn --transfer-from runs/softmax
  jempp-cli eval all -m model.safetensors --out results --attack-n 100")]
#[command(after_long_help = "Examples:
  jempp-cli eval all -m runs/train-001                             report.html
  jempp-cli eval all -m runs/jempp --ood-data svhn --transfer-from runs/softmax
  jempp-cli eval all -m model.safetensors --out results --attack-n 100
  jempp-cli eval all -m runs/train-001 --inception inception.pth   and FID

Finished parts are kept: started again after an interruption, it continues where it stopped.")]
pub(crate) struct All {
    /// Run folder, checkpoint folder or model file
    #[arg(short, long, value_name = "PATH", help_heading = DATA)]
    pub model: PathBuf,
    /// Data set, by name or path [default: the one trained on]
    #[arg(long, value_name = "NAME", help_heading = DATA)]
    pub data: Option<String>,
    /// Evaluate only N test images, drawn at random
    #[arg(short, long, help_heading = DATA)]
    pub n: Option<usize>,
    /// Out-of-distribution data set; repeatable
    ///
    /// By name or path; its test images are used. More than one can be given.
    #[arg(long, alias = "against", value_name = "NAME", help_heading = "Detection and attacks")]
    pub ood_data: Vec<String>,
    /// Skip the detection score −‖∂log p/∂x‖
    #[arg(long, help_heading = "Detection and attacks")]
    pub no_gradient: bool,
    /// Test images to attack; 0 for none
    ///
    /// At most so many, drawn at random with the seed.
    #[arg(long, alias = "attacked", default_value_t = 1000, value_name = "N")]
    #[arg(help_heading = "Detection and attacks")]
    pub attack_n: usize,
    /// Random restarts of attacks
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Detection and attacks")]
    pub restarts: u32,
    /// Also use adversarial examples of this model
    #[arg(long, alias = "transfer", value_name = "PATH", help_heading = "Detection and attacks")]
    pub transfer_from: Option<PathBuf>,
    /// InceptionV3 weights; needed for FID (see eval fid)
    #[arg(long, value_name = "FILE", help_heading = "FID")]
    pub inception: Option<PathBuf>,
    /// Samples to draw for FID
    #[arg(long, alias = "sampled", default_value_t = 10_000, value_name = "N", requires = "inception")]
    #[arg(help_heading = "FID")]
    pub fid_n: usize,
    /// The feature extractor and the reference images.
    #[command(flatten)]
    pub inception_options: InceptionOptions,
    /// Folder for all results [default: the run folder]
    ///
    /// Needed where the model is not in a run folder.
    #[arg(short, long, value_name = "DIR", help_heading = OUTPUT)]
    pub out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}
