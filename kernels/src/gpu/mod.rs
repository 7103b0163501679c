//! NVIDIA GPUs: finding them, and thin safe wrappers over what runs on them.
//!
//! What must hold here:
//! - This is the only home of `cudarc`. Its calls panic when a library or a symbol is missing, so each goes through
//!   a wrapper that can only be made once [`libs`] has found the library, its version and every symbol it needs.
//! - No GPU is an ordinary [`NoCuda`] that says what was looked for, where, and how to get it.
//! - Nothing is linked: a build needs no CUDA, and a program runs without it.
//!
//! ```
//! match kernels::gpu::open(0) {
//!     Ok(gpu) => println!("{}", gpu.device().name),
//!     Err(why) => println!("no GPU: {why}"),
//! }
//! ```

mod backend;
pub mod batch_norm;
pub(crate) mod blas;
pub mod context;
pub(crate) mod cudnn;
mod desc;
mod dl;
mod driver;
pub mod error;
pub mod fused;
pub mod graph;
mod handles;
pub mod known;
pub(crate) mod launch;
pub mod libs;
mod memory;
pub mod modules;
pub mod nvrtc;
mod opgraph;
pub mod peak;
mod plans;
pub mod probe;
mod reference;
pub mod search;
pub mod selftest;
pub mod sources;
mod staging;
mod store;
mod symbols;
mod timer;

pub use context::{Buffer, Gpu, Kernel, Precision};
pub use driver::Device;
pub use error::{GpuError, NoCuda};
pub use graph::Graph;
pub use launch::{Float, Launch};
pub use probe::{LibraryReport, Report, open, probe, probe_with};
pub use staging::Staging;
