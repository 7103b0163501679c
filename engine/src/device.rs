//! Where programs run: an explicit value, never a global.

use core::fmt;
use kernels::cpu::{Cpu, Level};
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
}

/// A device. Cloning shares its threads.
#[derive(Clone)]
pub struct Device {
    cpu: Arc<Cpu>,
    /// What to watch.
    pub debug: Debugging,
}

impl Device {
    /// The CPU with `threads` threads (0: one a core) and the best instruction set.
    pub fn cpu(threads: usize) -> Self {
        Self::cpu_with(threads, Level::Avx512, Debugging::default())
    }

    /// The CPU with instruction sets up to `limit`.
    pub fn cpu_with(threads: usize, limit: Level, debug: Debugging) -> Self {
        Self { cpu: Arc::new(Cpu::new(threads, limit)), debug }
    }

    /// The CPU as the environment asks for it: `JEMPP_SIMD` (`portable`, `avx2`, `avx512`) and `JEMPP_DEBUG`.
    ///
    /// # Errors
    /// A text naming the variable and the allowed values.
    pub fn cpu_from_env(threads: usize) -> Result<Self, String> {
        let limit = match std::env::var("JEMPP_SIMD").as_deref() {
            Err(_) | Ok("" | "avx512") => Level::Avx512,
            Ok("avx2") => Level::Avx2,
            Ok("portable") => Level::Portable,
            Ok(other) => return Err(format!("JEMPP_SIMD={other}: use portable, avx2 or avx512")),
        };
        let debug = match std::env::var("JEMPP_DEBUG") {
            Ok(list) => Debugging::parse(&list).map_err(|e| format!("JEMPP_DEBUG: {e}"))?,
            Err(_) => Debugging::default(),
        };
        Ok(Self::cpu_with(threads, limit, debug))
    }

    /// Its threads and instruction set.
    pub fn cpu_ref(&self) -> &Arc<Cpu> {
        &self.cpu
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu, {} threads, {:?}", self.cpu.pool.threads(), self.cpu.simd.level())
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.cpu.pool.threads();
        let level = match self.cpu.simd.level() {
            Level::Portable => "portable",
            Level::Avx2 => "AVX2",
            Level::Avx512 => "AVX-512",
        };
        write!(f, "CPU, {t} thread{}, {level}", if t == 1 { "" } else { "s" })
    }
}
