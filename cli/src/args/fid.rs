//! Arguments of `eval fid`.

use super::{SplitName, StartName};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Arguments of `eval fid`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli eval fid --model runs/train-001 --inception pt_inception.safetensors --out judged
  jempp-cli eval fid --model runs/train-001 --inception W --start buffer --steps 0       the training's chains as they are
  jempp-cli eval fid --model runs/train-001 --inception W --samples samples.npz --reference judged/reference.npz

Weights are not part of this program: a state dict of pytorch-fid's or torchvision's InceptionV3, as safetensors or as
written by torch.save (docs/judging.md says how to get it). With --out, finished portions are kept, and the statistics of
the images compared with as reference.npz, for --reference.")]
pub struct Fid {
    /// Run folder, checkpoint folder or model file
    #[arg(short, long, value_name = "PATH")]
    pub model: PathBuf,
    /// Weights of InceptionV3
    #[arg(long, value_name = "FILE")]
    pub inception: PathBuf,
    /// Chains
    #[arg(short, long, default_value_t = 10_000)]
    pub n: usize,
    /// Outer steps of each [default: as many as a round of training has]
    #[arg(long)]
    pub steps: Option<u32>,
    /// Where chains start
    #[arg(long, value_enum, default_value_t = StartName::Bank)]
    pub start: StartName,
    /// Judge the images of this archive (`images`, as `sample` writes them) instead of chains
    #[arg(long, value_name = "FILE.npz", conflicts_with_all = ["n", "steps", "start"])]
    pub samples: Option<PathBuf>,
    /// Data set compared with, by name or path [default: that of the training]
    #[arg(long, value_name = "NAME")]
    pub data: Option<String>,
    /// Which of its images
    #[arg(long, value_enum, default_value_t = SplitName::Train)]
    pub split: SplitName,
    /// How images are seen, and what they are compared with.
    #[command(flatten)]
    pub seeing: Seeing,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Write the numbers into this folder, and keep finished portions there
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// How images are seen, and what they are compared with.
#[derive(Args, Debug)]
pub struct Seeing {
    /// Whose network the Inception weights are of [default: told by the number of classes, 1008 or 1000]
    #[arg(long, value_enum, value_name = "NETWORK")]
    pub variant: Option<VariantName>,
    /// How images become 299×299 pixels; numbers of the two ways cannot be compared
    #[arg(long, value_enum, default_value_t = ResizeName::Pil, value_name = "HOW")]
    pub resize: ResizeName,
    /// Compare with these statistics, as pytorch-fid and clean-fid write them (`mu`, `sigma`), made by the same network and
    /// resizing, instead of with images
    #[arg(long, value_name = "FILE.npz")]
    pub reference: Option<PathBuf>,
    /// Compare with only so many images, drawn by the seed
    #[arg(long, value_name = "N", conflicts_with = "reference")]
    pub reference_n: Option<usize>,
}

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VariantName {
    /// That of FID, ported from TensorFlow (pytorch-fid, clean-fid)
    Fid,
    /// That of torchvision
    Torchvision,
}

/// A way of resizing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ResizeName {
    /// PIL's bicubic, as clean-fid does it
    Pil,
    /// Bilinear with align_corners=False, as pytorch-fid does it
    Torch,
}
