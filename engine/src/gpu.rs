//! What there is of CUDA on this machine: a report only, nothing here computes.

pub use kernels::gpu::libs::{Status, Version};
pub use kernels::gpu::{Device, LibraryReport, NoCuda, Report, probe};
