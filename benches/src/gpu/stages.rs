//! The stages of a check, what each of them runs, and the order in which they are worth their time.
//!
//! What must hold: what is wanted most comes first, since the time may end at any stage; a job depends on no other but the
//! probe.

use super::selftest;
use super::{Allowed, Journal, Size, allowed};
use super::{convolutions, fusion, norm, parity, peak, roofline, speed, training, whole};
use crate::{Error, Result};
use engine::{BatchNormBy, Debugging, Device, Precision};
use std::fmt;

/// A kind of work that runs in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    /// Versions of libraries, devices, and whether the libraries compute correctly.
    Probe,
    /// Every op's small cases against the CPU.
    Parity,
    /// Training of a small network against the CPU, twice, and as one graph.
    Training,
    /// The highest rates of products and copies.
    Peak,
    /// Every convolution of WRN-28-10, with the engine that is chosen for it.
    Convolutions,
    /// Whole iterations.
    Iteration,
    /// An iteration node by node against the device's limits.
    Profile,
    /// The project's own kernels against a copy.
    Kernels,
    /// Batch norm, ours and cuDNN's, and cuDNN's as training has it.
    Norm,
    /// Fused patterns of cuDNN against our kernels.
    Fusion,
    /// Whole iterations in PyTorch.
    Torch,
    /// Small cases of our own kernels under compute-sanitizer.
    Sanitizer,
}

impl Stage {
    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Parity => "parity",
            Self::Training => "training",
            Self::Peak => "peak",
            Self::Convolutions => "convolutions",
            Self::Iteration => "iteration",
            Self::Profile => "profile",
            Self::Kernels => "kernels",
            Self::Norm => "norm",
            Self::Fusion => "fusion",
            Self::Torch => "torch",
            Self::Sanitizer => "sanitizer",
        }
    }

    /// Whether it is about time and not about results.
    #[must_use]
    pub fn is_timed(self) -> bool {
        !matches!(self, Self::Probe | Self::Parity | Self::Training | Self::Sanitizer)
    }
}

/// A stage with what it is run on, and the most seconds that it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The stage.
    pub stage: Stage,
    /// `bf16`, `tf32` or `f32`; none where the stage has no precision.
    pub precision: Option<String>,
    /// The network, for stages that run one.
    pub network: Option<String>,
    /// How PyTorch runs: `eager`, `compile` or `graph`; of our own iterations `cudnn-norm`, with cuDNN's
    /// batch norm, or `one-stream`, with nothing beside the chain steps.
    pub mode: Option<String>,
    /// The most seconds.
    pub limit: u64,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.stage.name())?;
        for part in [&self.network, &self.mode, &self.precision].into_iter().flatten() {
            write!(f, " {part}")?;
        }
        Ok(())
    }
}

/// Which parts of the plan are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Tiny sizes.
    pub quick: bool,
    /// Stages about time too.
    pub speed: bool,
    /// PyTorch too.
    pub torch: bool,
    /// compute-sanitizer too.
    pub sanitizer: bool,
}

fn job(stage: Stage, network: &str, mode: &str, precision: &str, limit: u64) -> Job {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Job { stage, precision: some(precision), network: some(network), mode: some(mode), limit }
}

/// All jobs in order. The limits are those of one H200, about twice what each is expected to take.
#[must_use]
pub fn plan(wanted: Wanted) -> Vec<Job> {
    let mut jobs = if wanted.quick { quick() } else { full() };
    jobs.retain(|j| match j.stage {
        Stage::Torch => wanted.torch,
        Stage::Sanitizer => wanted.sanitizer,
        stage => wanted.speed || !stage.is_timed(),
    });
    jobs
}

/// The mode of iterations in which nothing runs beside the chain steps.
pub const ONE_STREAM: &str = "one-stream";
/// The mode of iterations with cuDNN's batch norm.
pub const CUDNN_NORM: &str = "cudnn-norm";

fn full() -> Vec<Job> {
    use Stage::*;
    let (large, small, middle) = ("WRN-28-10", "WRN-28-2", "WRN-16-4");
    vec![
        job(Probe, "", "", "", 40),
        job(Parity, "", "", "bf16", 60),
        job(Parity, "", "", "f32", 40),
        job(Training, "", "", "bf16", 40),
        job(Peak, "", "", "", 25),
        job(Convolutions, "", "", "bf16", 75),
        job(Iteration, large, "", "bf16", 60),
        job(Profile, large, "", "bf16", 45),
        job(Torch, large, "eager", "bf16", 60),
        job(Torch, large, "compile", "bf16", 130),
        job(Kernels, "", "", "bf16", 40),
        job(Iteration, large, ONE_STREAM, "bf16", 60),
        job(Iteration, large, CUDNN_NORM, "bf16", 75),
        job(Iteration, small, "", "bf16", 30),
        job(Iteration, middle, "", "bf16", 30),
        job(Training, "", "", "f32", 30),
        job(Torch, large, "graph", "bf16", 60),
        job(Torch, small, "eager", "bf16", 40),
        job(Torch, middle, "eager", "bf16", 40),
        job(Iteration, large, "", "tf32", 60),
        job(Torch, small, "compile", "bf16", 90),
        job(Torch, middle, "compile", "bf16", 90),
        job(Iteration, large, "", "f32", 90),
        job(Parity, "", "", "tf32", 30),
        job(Training, "", "", "tf32", 30),
        job(Fusion, "", "", "", 60),
        job(Norm, "", "", "", 40),
        job(Convolutions, "", "", "tf32", 60),
        job(Convolutions, "", "", "f32", 90),
        job(Profile, large, "", "tf32", 60),
        job(Sanitizer, "", "", "bf16", 120),
    ]
}

/// Everything once, as small as it gets. The limits are those of a simulated device.
fn quick() -> Vec<Job> {
    use Stage::*;
    let tiny = "tiny";
    vec![
        job(Probe, "", "", "", 300),
        job(Parity, "", "", "bf16", 300),
        job(Parity, "", "", "f32", 300),
        job(Parity, "", "", "tf32", 300),
        job(Training, "", "", "bf16", 300),
        job(Peak, "", "", "", 300),
        job(Convolutions, "", "", "bf16", 300),
        job(Iteration, tiny, "", "bf16", 300),
        job(Iteration, tiny, ONE_STREAM, "bf16", 300),
        job(Iteration, tiny, CUDNN_NORM, "bf16", 300),
        job(Profile, tiny, "", "bf16", 300),
        job(Torch, tiny, "eager", "bf16", 300),
        job(Kernels, "", "", "bf16", 300),
        job(Norm, "", "", "", 300),
        job(Fusion, "", "", "", 300),
        job(Sanitizer, "", "", "bf16", 300),
    ]
}

/// The precision of a name.
///
/// # Errors
/// If there is none of that name.
pub fn precision(name: &str) -> Result<Precision> {
    let known = whole::PRECISIONS.iter().find(|(n, _)| *n == name);
    known
        .map(|(_, p)| *p)
        .ok_or_else(|| Error::Device(format!("there is no precision {name}: f32, tf32 or bf16")))
}

/// Runs the checks of a job on a device in this process. The probe, PyTorch and the sanitizer are not run here.
///
/// # Errors
/// If the device does not open, or the results cannot be written.
pub fn run(job: &Job, ordinal: usize, size: Size, journal: &mut Journal) -> Result<()> {
    let how = precision(job.precision.as_deref().unwrap_or("f32"))?;
    let device =
        Device::cuda(ordinal, how, Debugging::default()).map_err(|e| Error::Device(e.to_string()))?;
    // What cuDNN or cuBLAS refuses is a failed check, and no slow one.
    if let Some(gpu) = device.as_gpu() {
        gpu.require_libraries();
    }
    if job.mode.as_deref() == Some(CUDNN_NORM) {
        device.set_batch_norm(BatchNormBy::Cudnn);
    }
    let device = device.with_branches(job.mode.as_deref() != Some(ONE_STREAM));
    watch(journal, &device);
    let rules: Allowed = allowed(&device).ok_or_else(|| Error::Device("this is no GPU".to_owned()))?;
    match job.stage {
        Stage::Parity => parity::checks(journal, &device, rules, size)?,
        Stage::Training => training::checks(journal, &device, rules, size)?,
        Stage::Peak => peak::checks(journal, &device, size)?,
        Stage::Convolutions => convolutions::checks(journal, &device, size)?,
        Stage::Iteration => whole::checks(journal, &device, job.network.as_deref(), size)?,
        Stage::Profile => roofline::checks(journal, &device, job.network.as_deref(), size)?,
        Stage::Kernels => speed::checks(journal, &device, rules, size)?,
        Stage::Norm => {
            norm::checks(journal, &device, size)?;
            parity::cudnn_norm(journal, &device, rules)?;
        }
        Stage::Fusion => fusion::checks(journal, &device, size)?,
        Stage::Sanitizer => parity::own_kernels(journal, &device, rules)?,
        Stage::Probe => match device.as_gpu() {
            Some(gpu) => selftest::checks(journal, gpu)?,
            None => return Err(Error::Device("this is no GPU".to_owned())),
        },
        Stage::Torch => return Err(Error::Device("PyTorch runs in a program of its own".to_owned())),
    }
    for note in device.as_gpu().map(|gpu| gpu.notes()).unwrap_or_default() {
        println!("  Note: {note}");
        let written = journal.write("note", serde_json::json!({ "text": note }));
        written.map_err(|e| Error::Device(format!("the results could not be written: {e}")))?;
    }
    Ok(())
}

/// After a failure, asks the device whether it still works.
fn watch(journal: &mut Journal, device: &Device) {
    let device = device.clone();
    journal.watch(move || match device.as_gpu() {
        Some(gpu) => gpu.synchronize().map_err(|e| e.to_string()),
        None => Ok(()),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_have_names_of_their_own_and_their_networks_exist() {
        for quick in [false, true] {
            let jobs = plan(Wanted { quick, speed: true, torch: true, sanitizer: true });
            let mut names: Vec<String> = jobs.iter().map(Job::to_string).collect();
            assert_eq!(names[0], "probe");
            names.sort();
            names.dedup();
            assert_eq!(names.len(), jobs.len());
            let size = if quick { Size::Small } else { Size::Real };
            for network in jobs.iter().filter_map(|j| j.network.as_deref()) {
                assert!(whole::network(Some(network), size).is_ok(), "{network}");
            }
        }
        let few = plan(Wanted::default());
        assert!(few.iter().all(|j| !j.stage.is_timed()), "{few:?}");
    }

    #[test]
    fn the_main_numbers_are_reached_before_the_time_is_up() {
        let jobs = plan(Wanted { quick: false, speed: true, torch: true, sanitizer: false });
        let to = jobs.iter().position(|j| j.to_string() == "torch WRN-28-10 eager bf16").unwrap();
        assert!(jobs[..=to].iter().map(|j| j.limit).sum::<u64>() <= 520, "even where each takes its limit");
    }
}
