//! What there is of CUDA on this machine: a report only, nothing here computes.

pub use kernels::gpu::libraries::{Status, Version};
pub use kernels::gpu::{Device, LibraryReport, NoCuda, Report, probe};
