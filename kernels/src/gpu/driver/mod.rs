//! The CUDA driver: devices, an open device with its stream, memory, kernels, captured graphs and timing.
//!
//! What must hold: this room knows neither cuBLAS, cuDNN nor NVRTC; what they keep on a device is attached to it.

mod attachments;
mod branch;
mod context;
mod device;
mod graph;
mod kernel;
mod memory;
mod pool;
mod probe;
mod release;
mod staging;
mod timer;

pub use context::{BatchNormBy, Gpu, Precision};
pub use device::Device;
pub use graph::Graph;
pub use kernel::Kernel;
pub(in crate::gpu) use kernel::Module;
pub(crate) use kernel::{Arg, POINTERS, Pointers};
pub use memory::Buffer;
pub use probe::{LibraryReport, Report, open, probe, probe_with};
pub(in crate::gpu) use release::Deferred;
pub use staging::Staging;
