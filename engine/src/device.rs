//! Where programs run: an explicit value, never a global.

use crate::out_of_memory::free_host_memory;
use crate::spec::DType;
use core::fmt;
pub use kernels::cpu::Products;
use kernels::cpu::{Cpu, Level};
pub use kernels::gpu::{BatchNormBy, Precision};
use kernels::gpu::{Gpu, NoCuda};
use kernels::memory::{ALIGN, GPU_ALIGN};
use kernels::profile::Profile;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Checks made while running, from `JEMPP_DEBUG=nan,validate,plan`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Debugging {
    /// Stop at the first value that is not finite.
    pub nan: bool,
    /// Fill memory with NaN before each run, so that reading uninitialised memory shows.
    pub validate: bool,
    /// Print each plan to standard error.
    pub plan: bool,
}

impl Debugging {
    /// Parses a comma-separated list of modes.
    ///
    /// # Errors
    /// A text that names the first word that is not `nan`, `validate` or `plan`.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut d = Self::default();
        for word in list.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            match word {
                "nan" => d.nan = true,
                "validate" => d.validate = true,
                "plan" => d.plan = true,
                _ => return Err(format!("unknown debug mode `{word}`; use nan, validate or plan")),
            }
        }
        Ok(d)
    }

    /// The modes that the environment variable `JEMPP_DEBUG` lists; none if it is not set.
    ///
    /// # Errors
    /// A text naming the variable and the allowed values.
    pub fn from_env() -> Result<Self, String> {
        match std::env::var("JEMPP_DEBUG") {
            Ok(list) => Self::parse(&list).map_err(|e| format!("JEMPP_DEBUG: {e}")),
            Err(_) => Ok(Self::default()),
        }
    }
}

/// The values of `JEMPP_SIMD`.
const LEVELS: [(&str, Level); 3] =
    [("portable", Level::Portable), ("avx2", Level::Avx2), ("avx512", Level::Avx512)];

/// The instruction set called `asked`, ignoring case, hyphens, underscores and spaces: `AVX-512` is `avx512`.
fn parse_level(asked: &str) -> Result<Level, String> {
    let plain = |s: &str| s.to_lowercase().replace(['-', '_', ' '], "");
    if let Some((_, level)) = LEVELS.iter().find(|(name, _)| plain(asked) == *name) {
        return Ok(*level);
    }
    // AVX-512's subsets, AVX with or without FMA, and everything older.
    let near = match plain(asked) {
        s if s.contains("512") => "avx512",
        s if s.contains("avx") || s.contains("fma") => "avx2",
        _ => "portable",
    };
    Err(format!("JEMPP_SIMD={asked}: did you mean {near}? It may be portable, avx2 or avx512"))
}

/// A device on which programs run. Clones share its threads.
#[derive(Clone)]
pub struct Device {
    backend: Backend,
    /// Whether a CPU rounds activations to bf16, as a GPU that computes in bf16 does.
    emulates: bool,
    /// Whether programs may run beside each other.
    branches: bool,
    /// Checks made while running.
    pub debug: Debugging,
}

/// What runs the kernels.
#[derive(Clone)]
pub(crate) enum Backend {
    Cpu(Arc<Cpu>),
    Cuda(Arc<Gpu>),
}

impl Device {
    /// The CPU with `threads` threads (0: one per core) and the best instruction set.
    pub fn cpu(threads: usize) -> Self {
        Self::cpu_with(threads, Level::Avx512, Debugging::default())
    }

    /// The CPU with `threads` threads (0: one per core) and the best instruction set up to `limit`.
    pub fn cpu_with(threads: usize, limit: Level, debug: Debugging) -> Self {
        Self {
            backend: Backend::Cpu(Arc::new(Cpu::new(threads, limit))),
            emulates: false,
            branches: true,
            debug,
        }
    }

    /// The CPU with the instruction set that `JEMPP_SIMD` names (`portable`, `avx2` or `avx512`; the best one if it is not
    /// set) and the checks that `JEMPP_DEBUG` lists.
    ///
    /// # Errors
    /// A text naming the variable and its allowed values, or the instruction set that the machine has.
    pub fn cpu_from_env(threads: usize) -> Result<Self, String> {
        let debug = Debugging::from_env()?;
        let Some(asked) = std::env::var("JEMPP_SIMD").ok().filter(|v| !v.is_empty()) else {
            return Ok(Self::cpu_with(threads, Level::Avx512, debug));
        };
        let level = parse_level(&asked)?;
        let device = Self::cpu_with(threads, level, debug);
        match device.as_cpu().map(|cpu| cpu.simd.level()) {
            Some(best) if best != level => Err(format!(
                "JEMPP_SIMD={asked}: this machine does not have these instructions; its best is {}",
                LEVELS.iter().find(|(_, l)| *l == best).map_or("portable", |(name, _)| *name)
            )),
            _ => Ok(device),
        }
    }

    /// Makes a CPU round the factors of convolutions and linear layers as `products` says; a GPU is left unchanged.
    #[must_use]
    pub fn with_products(self, products: Products) -> Self {
        let Backend::Cpu(cpu) = self.backend else { return self };
        let cpu = Arc::try_unwrap(cpu).unwrap_or_else(|shared| shared.again()).with_products(products);
        Self { backend: Backend::Cpu(Arc::new(cpu)), ..self }
    }

    /// Whether bf16 products are chosen on a CPU without bf16 instructions: they are then emulated, slower than float32.
    pub fn emulates_products(&self) -> bool {
        self.as_cpu().is_some_and(|cpu| cpu.products == Products::Bf16 && !cpu.simd.bf16())
    }

    /// GPU number `ordinal`, with a stream of its own.
    ///
    /// # Errors
    /// If no usable GPU is found: what was looked for, and where.
    pub fn cuda(ordinal: usize, precision: Precision, debug: Debugging) -> Result<Self, NoCuda> {
        let gpu = kernels::gpu::open(ordinal)?.with_precision(precision);
        Ok(Self { backend: Backend::Cuda(Arc::new(gpu)), emulates: false, branches: true, debug })
    }

    /// Chooses whose kernels compute batch norm in train mode on a GPU, in programs planned from now on; nothing on a CPU.
    pub fn set_batch_norm(&self, by: BatchNormBy) {
        if let Some(gpu) = self.as_gpu() {
            gpu.set_batch_norm(by);
        }
    }

    /// Whether training records programs that can run beside each other on a GPU, as [`Sequence::run_beside`] does, which it does
    /// unless this is false; on a CPU only if it is the reference for a GPU.
    ///
    /// [`Sequence::run_beside`]: crate::Sequence::run_beside
    #[must_use]
    pub fn with_branches(self, branches: bool) -> Self {
        Self { branches, ..self }
    }

    /// Whether programs should be recorded so that they can run beside each other.
    pub fn branches(&self) -> bool {
        self.branches && (self.is_gpu() || self.emulates)
    }

    /// Makes a CPU the reference for a GPU that computes in bf16: models record bf16 activations and filters, and the CPU
    /// rounds them at the same places. Slow; a GPU is left unchanged.
    #[must_use]
    pub fn emulating_bf16(self) -> Self {
        Self { emulates: true, ..self }
    }

    /// The element type of activations that models record for this device.
    pub fn activations(&self) -> DType {
        let low = match &self.backend {
            Backend::Cpu(_) => self.emulates,
            Backend::Cuda(gpu) => gpu.precision() == Precision::Bf16,
        };
        if low { DType::BF16 } else { DType::F32 }
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Number of CPU threads that run kernels; `None` on a GPU.
    pub fn threads(&self) -> Option<usize> {
        self.as_cpu().map(|cpu| cpu.pool.threads())
    }

    /// The CPU instruction set that kernels use; `None` on a GPU.
    pub fn instruction_set(&self) -> Option<Level> {
        self.as_cpu().map(|cpu| cpu.simd.level())
    }

    /// Whether the kernels of a CPU use its bf16 instructions (AVX512_BF16).
    pub fn has_bf16_instructions(&self) -> bool {
        self.as_cpu().is_some_and(|cpu| cpu.simd.bf16())
    }

    /// Whether programs run on a GPU.
    pub fn is_gpu(&self) -> bool {
        self.as_gpu().is_some()
    }

    /// Bytes of memory that are free for programs and state, where that is known.
    pub fn free_memory(&self) -> Option<u64> {
        match self.as_gpu() {
            Some(gpu) => gpu.memory_free().ok(),
            None => free_host_memory(),
        }
    }

    /// The algorithms that a GPU has chosen by measurement so far, by what they compute; empty on a CPU.
    pub fn algorithm_choices(&self) -> BTreeMap<String, String> {
        self.as_gpu().map(|gpu| gpu.choices().into_iter().collect()).unwrap_or_default()
    }

    /// Uses `choices`, as [`Device::algorithm_choices`] gave them, for programs planned from now on; nothing on a CPU.
    pub fn use_algorithm_choices(&self, choices: BTreeMap<String, String>) {
        if let Some(gpu) = self.as_gpu() {
            gpu.recall(choices);
        }
    }

    /// Bytes to which tensors and workspaces of programs are aligned.
    pub(crate) fn alignment(&self) -> usize {
        if self.is_gpu() { GPU_ALIGN } else { ALIGN }
    }

    /// Makes `listener` hear each remark on how a GPU is used at once, such as a library that fails and what is used in
    /// its place. The first listener stays; nothing on a CPU.
    pub fn on_note(&self, listener: impl Fn(&str) + Send + Sync + 'static) {
        if let Some(gpu) = self.as_gpu() {
            gpu.on_note(listener);
        }
    }

    /// The CPU, if programs run on the CPU.
    pub fn as_cpu(&self) -> Option<&Arc<Cpu>> {
        match &self.backend {
            Backend::Cpu(cpu) => Some(cpu),
            Backend::Cuda(_) => None,
        }
    }

    /// The GPU, if programs run on one.
    pub fn as_gpu(&self) -> Option<&Arc<Gpu>> {
        match &self.backend {
            Backend::Cpu(_) => None,
            Backend::Cuda(gpu) => Some(gpu),
        }
    }

    /// Where its programs spend their time, by op, while the profile is on.
    pub fn profile(&self) -> &Profile {
        match &self.backend {
            Backend::Cpu(cpu) => &cpu.profile,
            Backend::Cuda(gpu) => gpu.profile(),
        }
    }

    /// How many programs can usefully run at once: the number of CPU threads, or 1 on a GPU.
    pub fn concurrency(&self) -> usize {
        self.as_cpu().map_or(1, |cpu| cpu.pool.threads())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpu = match &self.backend {
            Backend::Cpu(cpu) => cpu,
            Backend::Cuda(gpu) => {
                let precision = match gpu.precision() {
                    Precision::F32 => "",
                    Precision::Tf32 => ", tf32",
                    Precision::Bf16 => ", bf16",
                };
                return write!(f, "CUDA, {}{precision}", gpu.device().name);
            }
        };
        let t = cpu.pool.threads();
        let level = match cpu.simd.level() {
            Level::Portable => "portable",
            Level::Avx2 => "AVX2",
            Level::Avx512 => "AVX-512",
        };
        let products = match (cpu.products, self.emulates_products()) {
            (Products::F32, _) => "",
            (Products::Bf16, false) => ", bf16 products",
            (Products::Bf16, true) => ", bf16 products emulated",
        };
        let emulates = if self.emulates { ", emulating bf16" } else { "" };
        write!(f, "CPU, {t} thread{}, {level}{products}{emulates}", if t == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruction_sets_are_named_and_wrong_names_get_a_suggestion() {
        for (name, level) in
            [("portable", Level::Portable), ("avx2", Level::Avx2), ("AVX-512", Level::Avx512)]
        {
            assert_eq!(parse_level(name), Ok(level));
        }
        for (name, near) in [("avx512f", "avx512"), ("avx", "avx2"), ("sse2", "portable"), ("0", "portable")]
        {
            let why = parse_level(name).unwrap_err();
            assert!(why.contains(&format!("did you mean {near}?")) && why.contains(name), "{why}");
        }
    }
}
