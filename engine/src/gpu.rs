//! The CUDA devices and libraries found on this machine. A report only: nothing here computes.

pub use kernels::gpu::libs::{Status, Version};
pub use kernels::gpu::{Device, LibraryReport, NoCuda, Report, probe};
