//! The basis of the CPU backends: a thread pool, the instruction set, and safe ways to split work.

pub(crate) mod columns;
pub(crate) mod conv;
mod parallel;
pub mod peak;
pub(crate) mod pool;
pub(crate) mod simd;
pub(crate) mod vector;

use crate::profile::Profile;
pub(crate) use parallel::{
    copy_unless_in_place, for_parts, for_parts_scratch, for_parts2, for_parts2_scratch, for_parts3,
};
pub use pool::Pool;
pub use simd::{Level, Real, Simd};

/// The type that the factors in convolutions (except Winograd's) and linear layers are rounded to; sums, and all
/// tensors in memory, are float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Products {
    /// Float32: not rounded.
    #[default]
    F32,
    /// bf16, rounded to nearest, ties to even.
    Bf16,
}

/// The CPU as a device: its threads and its instruction set.
#[derive(Debug)]
pub struct Cpu {
    /// Its thread pool.
    pub pool: Pool,
    /// The instruction set in use.
    pub simd: Simd,
    /// How convolutions and linear layers multiply float32.
    pub products: Products,
    /// The time that programs spend by kind of work, while profiling is on.
    pub profile: Profile,
}

impl Cpu {
    /// A CPU with `threads` threads (0: one per core), the best instruction set up to `limit`, and float32 products.
    pub fn new(threads: usize, limit: Level) -> Self {
        let (pool, simd) = (Pool::new(threads), Simd::detect(limit));
        Self { pool, simd, products: Products::F32, profile: Profile::default() }
    }

    /// A CPU with the same settings and its own threads and profile.
    #[must_use]
    pub fn again(&self) -> Self {
        let (pool, profile) = (Pool::new(self.pool.threads()), Profile::default());
        Self { pool, simd: self.simd, products: self.products, profile }
    }

    /// This CPU, with other products.
    #[must_use]
    pub fn with_products(self, products: Products) -> Self {
        Self { products, ..self }
    }
}

/// Elements per task of an elementwise op: 64 KiB of float32. A fixed size, so that results do not depend on threads.
pub(crate) const GRAIN: usize = 16 * 1024;
