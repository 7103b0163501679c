//! What the CPU arms stand on: a thread pool, the instruction set, and safe ways to split work.

pub(crate) mod columns;
pub mod conv;
mod parallel;
pub mod peak;
pub mod pool;
pub mod simd;
pub(crate) mod vector;

use crate::profile::Profile;
pub(crate) use parallel::{
    copy_unless_in_place, for_parts, for_parts_scratch, for_parts2, for_parts2_scratch, for_parts3,
};
pub use pool::Pool;
pub use simd::{Level, Real, Simd};

/// What the factors of convolutions (those by minimal filtering excepted) and linear layers are rounded to; sums, and all
/// that lies in memory, are float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Products {
    /// Float32: not at all.
    #[default]
    F32,
    /// bf16, to nearest, ties to even.
    Bf16,
}

/// The CPU as a device: its threads and its instruction set.
#[derive(Debug)]
pub struct Cpu {
    /// The private threads.
    pub pool: Pool,
    /// The instruction set in use.
    pub simd: Simd,
    /// How convolutions and linear layers multiply float32.
    pub products: Products,
    /// What programs spend their time on, while it is asked for.
    pub profile: Profile,
}

impl Cpu {
    /// `threads` threads (0: one a core) on the best instruction set up to `limit`, with float32 products.
    pub fn new(threads: usize, limit: Level) -> Self {
        let (pool, simd) = (Pool::new(threads), Simd::detect(limit));
        Self { pool, simd, products: Products::F32, profile: Profile::default() }
    }

    /// Another one like it, with threads of its own.
    #[must_use]
    pub fn again(&self) -> Self {
        let (pool, profile) = (Pool::new(self.pool.threads()), Profile::default());
        Self { pool, simd: self.simd, products: self.products, profile }
    }

    /// The same with other products.
    #[must_use]
    pub fn with_products(self, products: Products) -> Self {
        Self { products, ..self }
    }
}

/// Elements an elementwise task works on: 64 KiB of float32, a fixed size so that nothing depends on threads.
pub(crate) const GRAIN: usize = 16 * 1024;
