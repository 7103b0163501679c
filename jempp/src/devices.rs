//! The CPU that programs run on, and what a run keeps of its GPU. What there is of CUDA says [`engine::gpu::probe()`].

use crate::error::{Error, Result};
use engine::{Device, Level};
use jempp_formats::files::write_atomic;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What a run chose by measurement on its GPU (the algorithms of convolutions), in the run's folder.
pub const CHOICES: &str = "gpu_choices.json";

/// Keeps what was chosen by measurement in a run's folder, so that the run can be repeated as it was; nothing on a CPU.
///
/// # Errors
/// If it cannot be written.
pub fn keep_choices(device: &Device, folder: &Path) -> Result<()> {
    let choices = device.algorithm_choices();
    if choices.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_string_pretty(&choices).map_err(|e| Error::Internal(e.to_string()))?;
    Ok(write_atomic(&folder.join(CHOICES), |w| w.write_all(format!("{text}\n").as_bytes()))?)
}

/// Takes over what a run kept, for programs planned from now on; returns how many choices there were. A file that is
/// not there or damaged counts as none: the choices are then measured again.
pub fn recall_choices(device: &Device, folder: &Path) -> usize {
    if !device.is_gpu() {
        return 0;
    }
    let text = fs::read_to_string(folder.join(CHOICES)).unwrap_or_default();
    let choices: BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_default();
    let count = choices.len();
    device.use_algorithm_choices(choices);
    count
}

/// The CPU as programs use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuInfo {
    /// The model's name, where the system tells.
    pub model: Option<String>,
    /// Threads that programs use.
    pub threads: usize,
    /// Threads that the system offers.
    pub available_threads: usize,
    /// Instruction set that the kernels use: `portable`, `AVX2`, `AVX-512` or `AVX-512 with BF16`.
    pub instruction_set: &'static str,
}

/// The CPU that `device` is, if it is one.
pub fn cpu(device: &Device) -> Option<CpuInfo> {
    Some(CpuInfo {
        model: model_name(),
        threads: device.threads()?,
        available_threads: std::thread::available_parallelism().map_or(1, usize::from),
        instruction_set: match device.instruction_set()? {
            Level::Portable => "portable",
            Level::Avx2 => "AVX2",
            Level::Avx512 if device.has_bf16_instructions() => "AVX-512 with BF16",
            Level::Avx512 => "AVX-512",
        },
    })
}

/// The CPU's name, from Linux's `/proc/cpuinfo`.
pub fn model_name() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("model name"))?;
    let name = line.split_once(':')?.1.split_whitespace().collect::<Vec<_>>().join(" ");
    (!name.is_empty()).then_some(name)
}
