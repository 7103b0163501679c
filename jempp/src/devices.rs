//! The CPU that programs run on. What there is of CUDA says [`engine::gpu::probe()`].

use engine::{Device, Level};
use serde::Serialize;

/// The CPU as programs use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuInfo {
    /// The model's name, where the system tells.
    pub model: Option<String>,
    /// Threads that programs use.
    pub threads: usize,
    /// Threads that the system offers.
    pub available_threads: usize,
    /// Instruction set that the kernels use: `portable`, `AVX2` or `AVX-512`.
    pub instruction_set: &'static str,
}

/// The CPU that `device` is, if it is one.
pub fn cpu(device: &Device) -> Option<CpuInfo> {
    let cpu = device.as_cpu()?;
    Some(CpuInfo {
        model: model_name(),
        threads: cpu.pool.threads(),
        available_threads: std::thread::available_parallelism().map_or(1, usize::from),
        instruction_set: match cpu.simd.level() {
            Level::Portable => "portable",
            Level::Avx2 => "AVX2",
            Level::Avx512 => "AVX-512",
        },
    })
}

/// From Linux's `/proc/cpuinfo`.
fn model_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("model name"))?;
    let name = line.split_once(':')?.1.split_whitespace().collect::<Vec<_>>().join(" ");
    (!name.is_empty()).then_some(name)
}
