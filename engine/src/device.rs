//! Where programs run: an explicit value, never a global.

use crate::spec::DType;
use core::fmt;
pub use kernels::cpu::Products;
use kernels::cpu::{Cpu, Level};
pub use kernels::gpu::Precision;
use kernels::gpu::{Gpu, NoCuda};
use kernels::profile::Profile;
use std::sync::Arc;

/// What to watch while running, from `JEMPP_DEBUG=nan,validate,plan`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Debugging {
    /// Stop at the first value that is not finite.
    pub nan: bool,
    /// Fill memory with NaN before each run, so that a read of what was never written shows.
    pub validate: bool,
    /// Print each plan to standard error.
    pub plan: bool,
}

impl Debugging {
    /// Parses a comma-separated list; unknown words are returned as an error text.
    ///
    /// # Errors
    /// The first word that is not `nan`, `validate` or `plan`.
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

    /// What `JEMPP_DEBUG` asks for.
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

/// What `JEMPP_SIMD` may say.
const LEVELS: [(&str, Level); 3] =
    [("portable", Level::Portable), ("avx2", Level::Avx2), ("avx512", Level::Avx512)];

/// The instruction set of a name, however it is written: `AVX-512` is `avx512`.
fn parse_level(asked: &str) -> Result<Level, String> {
    let plain = |s: &str| s.to_lowercase().replace(['-', '_', ' '], "");
    if let Some((_, level)) = LEVELS.iter().find(|(name, _)| plain(asked) == *name) {
        return Ok(*level);
    }
    // What an AVX of another number is nearest to, and what everything older is.
    let near = match plain(asked) {
        s if s.contains("512") => "avx512",
        s if s.contains("avx") || s.contains("fma") => "avx2",
        _ => "portable",
    };
    Err(format!("JEMPP_SIMD={asked}: did you mean {near}? It may be portable, avx2 or avx512"))
}

/// A device. Cloning shares its threads.
#[derive(Clone)]
pub struct Device {
    kind: Kind,
    /// Whether a CPU stands in for a GPU that computes in bf16, with float32 products of rounded activations.
    emulates: bool,
    /// What to watch.
    pub debug: Debugging,
}

/// What a device is.
#[derive(Clone)]
pub(crate) enum Kind {
    Cpu(Arc<Cpu>),
    Cuda(Arc<Gpu>),
}

impl Device {
    /// The CPU with `threads` threads (0: one a core) and the best instruction set.
    pub fn cpu(threads: usize) -> Self {
        Self::cpu_with(threads, Level::Avx512, Debugging::default())
    }

    /// The CPU with instruction sets up to `limit`.
    pub fn cpu_with(threads: usize, limit: Level, debug: Debugging) -> Self {
        Self { kind: Kind::Cpu(Arc::new(Cpu::new(threads, limit))), emulates: false, debug }
    }

    /// The CPU as the environment asks for it: exactly the instruction set of `JEMPP_SIMD` (`portable`, `avx2`, `avx512`;
    /// the best one if it is not set) and `JEMPP_DEBUG`.
    ///
    /// # Errors
    /// A text naming the variable and the allowed values, or what the machine has.
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

    /// The same CPU with other products in convolutions and linear layers; a GPU is left as it is.
    #[must_use]
    pub fn with_products(self, products: Products) -> Self {
        let Kind::Cpu(cpu) = self.kind else { return self };
        let cpu = Arc::try_unwrap(cpu).unwrap_or_else(|shared| shared.again()).with_products(products);
        Self { kind: Kind::Cpu(Arc::new(cpu)), ..self }
    }

    /// Whether products of bf16 are asked for where there are no instructions for them: right, but slower than float32.
    pub fn emulates_products(&self) -> bool {
        self.as_cpu().is_some_and(|cpu| cpu.products == Products::Bf16 && !cpu.simd.bf16())
    }

    /// GPU number `ordinal`, with a stream of its own.
    ///
    /// # Errors
    /// What was looked for and where, if there is none that can be used.
    pub fn cuda(ordinal: usize, precision: Precision, debug: Debugging) -> Result<Self, NoCuda> {
        let gpu = kernels::gpu::open(ordinal)?.with_precision(precision);
        Ok(Self { kind: Kind::Cuda(Arc::new(gpu)), emulates: false, debug })
    }

    /// The same CPU as the oracle of a GPU that computes in bf16: models round their activations and filters to bf16 at the
    /// same places (`emulate.rs`). Slow; a GPU is left as it is.
    #[must_use]
    pub fn emulating_bf16(self) -> Self {
        Self { emulates: true, ..self }
    }

    /// The element type of activations that models record for this device.
    pub fn activations(&self) -> DType {
        let low = match &self.kind {
            Kind::Cpu(_) => self.emulates,
            Kind::Cuda(gpu) => gpu.precision() == Precision::Bf16,
        };
        if low { DType::BF16 } else { DType::F32 }
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The CPU's threads and instruction set, if it is the CPU.
    pub fn as_cpu(&self) -> Option<&Arc<Cpu>> {
        match &self.kind {
            Kind::Cpu(cpu) => Some(cpu),
            Kind::Cuda(_) => None,
        }
    }

    /// The GPU, if it is one.
    pub fn as_gpu(&self) -> Option<&Arc<Gpu>> {
        match &self.kind {
            Kind::Cpu(_) => None,
            Kind::Cuda(gpu) => Some(gpu),
        }
    }

    /// What programs on it spend their time on, node by node, while it is asked for.
    pub fn profile(&self) -> &Profile {
        match &self.kind {
            Kind::Cpu(cpu) => &cpu.profile,
            Kind::Cuda(gpu) => gpu.profile(),
        }
    }

    /// How many programs may usefully run on it at once.
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
        let cpu = match &self.kind {
            Kind::Cpu(cpu) => cpu,
            Kind::Cuda(gpu) => {
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
