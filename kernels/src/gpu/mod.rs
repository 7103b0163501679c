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

pub mod blas;
pub mod context;
pub mod cudnn;
mod desc;
mod dl;
mod driver;
pub mod error;
pub mod graph;
pub mod known;
pub mod libs;
pub mod logsumexp;
mod memory;
pub mod nvrtc;
pub mod probe;
mod reference;
pub mod search;
pub mod selftest;
pub mod sources;
mod symbols;

pub use context::{Buffer, Gpu, Kernel};
pub use driver::Device;
pub use error::{GpuError, NoCuda};
pub use graph::Graph;
pub use probe::{LibraryReport, Report, open, probe, probe_with};
