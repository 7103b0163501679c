//! Arguments of `eval fid`.

use super::target::SplitName;
use crate::args::headings::{DATA, OUTPUT};
use crate::args::sample::StartName;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Arguments of `eval fid`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval fid -m runs/train-001 --inception inception.pth --out results")]
#[command(after_long_help = "Examples:
  jempp-cli eval fid -m runs/train-001 --inception inception.pth --out results
  jempp-cli eval fid -m runs/train-001 --inception inception.pth --samples s.npz
  jempp-cli eval fid -m RUN --inception W --start buffer --steps 0
  jempp-cli eval fid -m RUN --inception W --reference results/reference.npz

InceptionV3 weights are not included: pass a state dict of pytorch-fid or torchvision, as safetensors or as torch.save wrote
it (docs/evaluation.md says where to get one). With --out, finished parts are kept, and the statistics of the reference images
are written to reference.npz, which --reference reads.")]
pub(crate) struct Fid {
    /// Run folder, checkpoint folder or model file
    #[arg(short, long, value_name = "PATH", help_heading = DATA)]
    pub model: PathBuf,
    /// Reference data set [default: the one trained on]
    #[arg(long, value_name = "NAME", help_heading = DATA)]
    pub data: Option<String>,
    /// Reference split: test, valid or train
    #[arg(long, value_enum, default_value_t = SplitName::Train)]
    #[arg(hide_possible_values = true, help_heading = DATA)]
    pub split: SplitName,
    /// Samples to draw
    #[arg(short, long, default_value_t = 10_000, help_heading = "Sampling")]
    pub n: usize,
    /// Langevin steps per chain [default: as in training]
    #[arg(long, value_name = "N", help_heading = "Sampling")]
    pub steps: Option<u32>,
    /// Chain starts: buffer, informative, data, noise [default: buffer]
    ///
    /// Without a buffer in the model, informative.
    ///
    /// `jempp-cli sample --help` explains them.
    #[arg(long, value_enum)]
    #[arg(hide_possible_values = true, help_heading = "Sampling")]
    pub start: Option<StartName>,
    /// Evaluate these images instead of drawing samples
    ///
    /// An archive with `images`, as `jempp-cli sample -o` writes it.
    #[arg(long, value_name = "FILE.npz", conflicts_with_all = ["n", "steps", "start"])]
    #[arg(help_heading = "Sampling")]
    pub samples: Option<PathBuf>,
    /// InceptionV3 weights of pytorch-fid or torchvision
    #[arg(long, value_name = "FILE", help_heading = "FID")]
    pub inception: PathBuf,
    /// The feature extractor and the reference images.
    #[command(flatten)]
    pub inception_options: InceptionOptions,
    /// Print one JSON object
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
    /// Write the results here, and keep finished parts
    #[arg(short, long, value_name = "DIR", help_heading = OUTPUT)]
    pub out: Option<PathBuf>,
}

/// The feature extractor, and the images that samples are compared with.
#[derive(Args, Debug)]
#[command(next_help_heading = "FID")]
pub(crate) struct InceptionOptions {
    /// Network: fid or torchvision [default: detected]
    ///
    /// fid is the network ported from TensorFlow (pytorch-fid, clean-fid), with 1008 classes; torchvision's has 1000.
    #[arg(long, value_enum, value_name = "NETWORK", hide_possible_values = true, hide_short_help = true)]
    pub variant: Option<VariantName>,
    /// pil (as clean-fid) or torch (as pytorch-fid)
    ///
    /// How images are resized to 299×299 pixels. pil is PIL's bicubic filter, torch is bilinear with align_corners=False. FIDs of the two are not comparable.
    #[arg(long, value_enum, default_value_t = ResizeName::Pil, value_name = "FILTER")]
    #[arg(hide_possible_values = true)]
    pub resize: ResizeName,
    /// Reference statistics, used instead of images
    ///
    /// An archive with `mu` and `sigma` as pytorch-fid and clean-fid write it, made with the same network and resizing.
    #[arg(long, value_name = "FILE.npz")]
    pub reference: Option<PathBuf>,
    /// Use only N reference images, drawn at random
    #[arg(long, value_name = "N", conflicts_with = "reference", hide_short_help = true)]
    pub reference_n: Option<usize>,
}

/// Origin of InceptionV3 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VariantName {
    /// FID's network, ported from TensorFlow (pytorch-fid, clean-fid)
    Fid,
    /// torchvision's network
    Torchvision,
}

/// How images are resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResizeName {
    /// PIL's bicubic, as in clean-fid
    Pil,
    /// Bilinear with align_corners=False, as in pytorch-fid
    Torch,
}
