//! The CUDA devices and libraries found on this machine. A report only: nothing here computes.

pub use kernels::gpu::libraries::{Status, Version};
pub use kernels::gpu::{Device, LibraryReport, NoCuda, Report, probe};
