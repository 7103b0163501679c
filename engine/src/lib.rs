//! A recorded-tape autodiff engine.
//!
//! A [`Tape`] is a flat program: recording an op infers its shape and appends a node; [`grad`] appends the backward
//! nodes to the same tape; [`Plan`] decides every offset and workspace before anything runs, then runs it on a
//! [`Device`] against a [`State`] that programs share.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod asked;
pub mod device;
mod dump;
mod emulate;
pub mod error;
pub mod gpu;
mod grad;
pub mod op;
pub mod ops;
mod plan;
pub mod rng;
mod run;
mod sequence;
pub mod shortage;
pub mod spec;
pub mod state;
pub mod tape;

pub use device::{Debugging, Device, Precision, Products};
pub use error::{Error, Result};
pub use grad::grad;
pub use kernels::cpu::{Cpu, Level, peak};
pub use kernels::dtype::bf16;
pub use kernels::mmap::Mmap;
pub use kernels::profile::{Profile, Spent};
pub use plan::Plan;
pub use run::Host;
pub use sequence::{Part, Sequence};
pub use spec::{DType, Spec};
pub use state::{Element, Slot, State};
pub use tape::{Tape, Var};
