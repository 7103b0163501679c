//! What the CPU arms stand on: a thread pool, the instruction set, and safe ways to split work.

pub mod conv;
pub mod peak;
pub mod pool;
pub mod simd;
mod split;

use crate::profile::Profile;
pub use pool::Pool;
pub use simd::{Level, Real, Simd};
pub(crate) use split::{for_parts, for_parts_scratch, for_parts2, for_parts2_scratch, for_parts3};

/// The CPU as a device: its threads and its instruction set.
#[derive(Debug)]
pub struct Cpu {
    /// The private threads.
    pub pool: Pool,
    /// The instruction set in use.
    pub simd: Simd,
    /// What programs spend their time on, while it is asked for.
    pub profile: Profile,
}

impl Cpu {
    /// `threads` threads (0: one a core) on the best instruction set up to `limit`.
    pub fn new(threads: usize, limit: Level) -> Self {
        Self { pool: Pool::new(threads), simd: Simd::detect(limit), profile: Profile::default() }
    }
}

/// Elements an elementwise task works on: 64 KiB of float32, a fixed size so that nothing depends on threads.
pub(crate) const GRAIN: usize = 16 * 1024;
