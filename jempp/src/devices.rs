//! The CPU, and a run's record of the algorithms chosen on its GPU. CUDA devices are listed by
//! [`engine::gpu::probe()`].

use crate::error::{Error, Result};
use engine::{Device, Level};
use jempp_formats::files::write_atomic;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Name of the file in a run folder with the autotuned choices of its GPU (convolution algorithms).
const CHOICES: &str = "gpu_choices.json";

/// Logs each remark on how a GPU is used as a warning, at once: for example that a library fails, and that something
/// slower takes its place. Nothing for a CPU.
pub fn warn_of_notes(device: &Device) {
    device.on_note(|note| tracing::warn!("{note}"));
}

/// Saves the device's autotuned choices in a run folder, so that the run can be repeated with the same algorithms. Does
/// nothing for a CPU, or if there were none.
///
/// # Errors
/// [`Error::Io`].
pub fn keep_choices(device: &Device, folder: &Path) -> Result<()> {
    let choices = device.algorithm_choices();
    if choices.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_string_pretty(&choices).map_err(|e| Error::Internal(e.to_string()))?;
    Ok(write_atomic(&folder.join(CHOICES), |w| w.write_all(format!("{text}\n").as_bytes()))?)
}

/// Loads the choices that a run saved, for programs planned from now on; returns their number. A missing or damaged
/// file counts as no choices, which are then autotuned again.
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

/// The CPU, and how programs use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuInfo {
    /// Model name, if the system reports it.
    pub model: Option<String>,
    /// Number of threads that programs use.
    pub threads: usize,
    /// Number of threads that the system offers.
    pub available_threads: usize,
    /// Instruction set of the kernels: `portable`, `AVX2`, `AVX-512` or `AVX-512 with BF16`.
    pub instruction_set: &'static str,
}

/// Describes `device` if it is a CPU.
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

/// Model name of the CPU, from Linux's `/proc/cpuinfo`.
pub fn model_name() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("model name"))?;
    let name = line.split_once(':')?.1.split_whitespace().collect::<Vec<_>>().join(" ");
    (!name.is_empty()).then_some(name)
}
