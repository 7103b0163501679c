//! What the command line takes. One struct a subcommand; what they mean is in `commands`.

mod bench;
mod convert;
mod eval;
mod fid;
mod judge;
mod sample;
mod train;

pub use bench::{Bench, BenchCommand, Ops, SampleStep, TrainStep};
pub use convert::{BnName, Convert, KindName, NormName};
pub use eval::{
    Accuracy, All, Attack, AttackNorm, Calibration, Eval, EvalCommand, Judged, Ood, Report, SplitName,
    Thresholds,
};
pub use fid::{Fid, ResizeName, Seeing, VariantName};
pub use judge::{Devices, Inspect};
pub use sample::{Format, Predict, Sample, StartName};
pub use train::Train;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jempp::engine::gpu::probe;
use jempp::engine::{Debugging, Device, Precision, Products};
use jempp::{Error, Result};

/// Train, sample and judge joint energy-based models (JEM++).
#[derive(Debug, Parser)]
#[command(name = "jempp-cli", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "\
Start with:
  jempp-cli train                 train a small model on the built-in digits (half a minute)
  jempp-cli train --help          all that training takes

Exit codes: 0 done, 1 internal error, 2 wrong usage, 3 configuration or data, 4 device, 5 diverged,
6 corrupt file, 7 input/output, 130 or 143 stopped after saving.")]
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
    /// Where to compute: auto (the CPU), cpu or cuda:N
    #[arg(long, global = true, default_value = "auto", value_name = "DEVICE")]
    pub device: String,
    /// What networks compute with: f32, bf16 or on a GPU tf32. bf16 on the CPU: convolutions and linear layers round their
    /// factors where that saves time, and all that lies in memory is f32; without AVX512_BF16 it is slower than f32
    #[arg(long, global = true, value_enum, default_value_t = Numbers::F32, value_name = "PRECISION")]
    pub precision: Numbers,
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

/// What networks compute with; sums, statistics, energies, losses and trained weights are float32 always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Numbers {
    /// Float32.
    F32,
    /// TensorFloat-32 products, on a GPU.
    Tf32,
    /// On the CPU bfloat16 products; on a GPU activations and filters in bfloat16.
    Bf16,
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
    /// Why these options do not go together, if they do not: wrong usage.
    pub fn conflict(&self) -> Option<String> {
        let on_cpu = matches!(self.device.as_str(), "auto" | "cpu");
        (self.precision == Numbers::Tf32 && on_cpu).then(|| {
            format!(
                "--precision tf32 is for a GPU, and --device {} computes on the CPU, in f32 or bf16\n\nName a GPU, such as \
                 --device cuda:0 (`jempp-cli devices` shows what there is), or leave --precision out",
                self.device
            )
        })
    }

    /// The device asked for. `auto` is the CPU: the CUDA backend has not met a GPU yet, so it must be asked for. With -v
    /// a GPU that could be asked for is named.
    ///
    /// # Errors
    /// [`Error::Device`] for a GPU that is not there, or a name that is none.
    pub fn device(&self) -> Result<Device> {
        if self.device == "auto" && self.verbose > 0 {
            match probe().devices {
                Ok(found) if !found.is_empty() => {
                    eprintln!("Computing on the CPU; --device cuda:0 tries {}", found[0].name);
                }
                Ok(_) => eprintln!("Computing on the CPU: there is no GPU"),
                Err(why) => eprintln!("Computing on the CPU: {}", why.brief()),
            }
        }
        let name = self.device.as_str();
        if let "auto" | "cpu" = name {
            return self.cpu();
        }
        let precision = match self.precision {
            Numbers::F32 => Precision::F32,
            Numbers::Tf32 => Precision::Tf32,
            Numbers::Bf16 => Precision::Bf16,
        };
        match name.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(ordinal)) => {
                let debug = Debugging::from_env().map_err(Error::Config)?;
                Device::cuda(ordinal, precision, debug).map_err(|why| no_gpu(name, &why))
            }
            _ => Err(Error::Device(format!("--device {name}: use auto, cpu or cuda:N, such as cuda:0"))),
        }
    }

    fn cpu(&self) -> Result<Device> {
        let cpu = Device::cpu_from_env(self.threads).map_err(Error::Config)?;
        if self.precision != Numbers::Bf16 {
            return Ok(cpu);
        }
        let cpu = cpu.with_products(Products::Bf16);
        if cpu.emulates_products() && !self.quiet {
            eprintln!(
                "bf16 products are emulated, for want of AVX512_BF16: slower than --precision f32. Use f32 unless you want \
                 results as bf16 gives them"
            );
        }
        Ok(cpu)
    }
}

/// Why `cuda:N` cannot be computed on.
fn no_gpu(name: &str, why: &impl std::fmt::Display) -> Error {
    Error::Device(format!(
        "--device {name}: {why}\nUse --device cpu or auto; `jempp-cli devices` shows all that was found."
    ))
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model; without arguments a small one on the built-in digits
    Train(Train),
    /// Draw new images from a trained model
    Sample(Sample),
    /// Classify images; also log densities and input gradients
    Predict(Predict),
    /// Judge a trained model
    Eval(Eval),
    /// Turn a model into another kind of file: safetensors, PyTorch, ONNX
    Convert(Convert),
    /// Write what is known of runs as one HTML page
    Report(Report),
    /// Say what a run, a checkpoint or a model file holds
    Inspect(Inspect),
    /// Say what there is to compute on
    Devices(Devices),
    /// Measure speed on this machine
    Bench(Bench),
    /// Print a script that completes this command line in a shell
    Completions(Completions),
    /// Write the man pages into a folder
    #[command(hide = true)]
    Man(Man),
}

/// Arguments of `completions`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  jempp-cli completions bash > ~/.local/share/bash-completion/completions/jempp-cli
  jempp-cli completions zsh > ~/.zfunc/_jempp-cli
  jempp-cli completions fish > ~/.config/fish/completions/jempp-cli.fish")]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Args, Debug)]
pub struct Man {
    /// A folder that is there
    #[arg(value_name = "FOLDER")]
    pub folder: std::path::PathBuf,
}
