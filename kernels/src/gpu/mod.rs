//! NVIDIA GPUs: finding them, and thin safe wrappers over what runs on them.
//!
//! What must hold here:
//! - Only this module uses `cudarc`. Its functions panic when a library or a symbol is missing, so each is called
//!   through a wrapper that can only be made once [`libraries`] has found the library, a supported version of it and
//!   every symbol that the wrappers need. Of cuBLAS and cuDNN it gives the types only: their functions are looked up in
//!   the copies that were found, and their statuses are read as integers.
//! - A machine without a GPU gives an ordinary error, [`NoCuda`], that says what was searched for, where, and how to
//!   install it.
//! - Nothing is linked: building needs no CUDA, and the program runs without it.
//!
//! The rooms, each using only those above it:
//!
//! | room | what is in it |
//! |---|---|
//! | `error` | [`NoCuda`] and [`GpuError`] |
//! | [`libraries`] | searching for CUDA's shared libraries, opening and checking them |
//! | `driver` | devices, contexts, memory, captured graphs, timing |
//! | `disk_cache` | compiled kernels and measured choices, kept between runs |
//! | [`nvrtc`] | compiling the project's kernels at run time and loading them |
//! | `launch` | prepared launches with checked arguments |
//! | `timing` | timing launches without the host's share |
//! | `autotune` | remembering which algorithm was the fastest |
//! | [`cublas`] | matrix products |
//! | [`cudnn`] | cuDNN's functions, its handle, its batch norm |
//! | [`cudnn_graph`] | cuDNN's graph API: convolutions, and several operations in one kernel |
//!
//! ```
//! match kernels::gpu::open(0) {
//!     Ok(gpu) => println!("{}", gpu.device().name),
//!     Err(why) => println!("no GPU: {why}"),
//! }
//! ```

mod autotune;
pub mod cublas;
pub mod cudnn;
pub mod cudnn_graph;
mod disk_cache;
pub(crate) mod driver;
mod error;
pub(crate) mod launch;
pub mod libraries;
pub mod nvrtc;
mod timing;

pub use crate::dtype::Float;
pub use driver::{
    BatchNormBy, Buffer, Device, Gpu, Graph, Kernel, LibraryReport, Precision, Report, Staging,
};
pub use driver::{open, probe, probe_with};
pub use error::{GpuError, NoCuda};
pub use launch::Launch;
