//! The C interface of jempp. `include/jempp.h` is generated from these files, comments included.
//!
//! Invariants: no panic crosses the boundary (`call.rs`), no handle is dereferenced (`handles.rs`), and memory behind a
//! caller's pointer is read and written in `args.rs` only, by its rules. Names, signatures and numbers here never
//! change; new ones may be added.
//!
//! Modules use those before them: status, objects, handles, call, args, then the functions of the interface.
#![allow(non_camel_case_types)]
// The obligations of a C caller are in each function's comment, which the header repeats, and at the top of the header.
#![allow(clippy::missing_safety_doc)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod args;
mod call;
mod handles;
mod objects;

// In the order of the header.
mod version;

mod status;

mod context;

mod model;

mod decision;

mod scores;

mod evaluate;

mod sample;

mod trainer;

mod run;

mod device;

mod log;

#[cfg(test)]
mod tests;

pub use context::*;
pub use decision::*;
pub use device::*;
pub use evaluate::*;
pub use handles::{jempp_context, jempp_model, jempp_trainer};
pub use log::*;
pub use model::*;
pub use run::*;
pub use sample::*;
pub use scores::*;
pub use status::*;
pub use trainer::*;
pub use version::*;
