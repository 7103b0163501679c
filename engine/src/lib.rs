//! A tape-based automatic differentiation engine.
//!
//! A [`Tape`] is a flat program: recording an op infers its shape and appends a node; [`grad`] appends the backward
//! nodes to the same tape. [`Tape::plan`] compiles it into a [`Plan`]: all memory is laid out before anything runs. The
//! plan then runs on its [`Device`] with a [`State`] that programs share.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod arena;
mod assign;
mod bf16_reference;
mod bytes;
mod capture;
mod case;
mod compile;
mod device;
mod display;
mod error;
mod execute;
pub mod gpu;
mod grad;
pub mod op;
pub mod ops;
mod out_of_memory;
pub mod peak;
mod plan;
mod planner;
mod program;
mod readback;
pub mod rng;
mod sequence;
mod spec;
mod state;
mod tape;
pub mod testing;

pub use bytes::format_bytes;
pub use device::{BatchNormBy, Debugging, Device, Precision, Products};
pub use error::{Error, KernelError, Result, Site};
pub use execute::HostTensor;
pub use grad::grad;
pub use kernels::cpu::Level;
pub use kernels::dtype::bf16;
pub use kernels::mmap::Mmap;
pub use kernels::profile::{Profile, Spent};
pub use out_of_memory::{Allocation, OutOfMemory};
pub use plan::Plan;
pub use sequence::{Part, Sequence};
pub use spec::{DType, MAX_RANK, Spec};
pub use state::{Element, Slot, State};
pub use tape::{Node, Tape, Var};
