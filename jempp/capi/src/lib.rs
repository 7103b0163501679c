//! The C interface of jempp: `include/jempp.h` is made of these files, comments and all.
//!
//! What must hold: no panic crosses (`call.rs`), no handle is followed (`handles.rs`), nothing is read or written through a
//! pointer but in `args.rs` and by its rules; names, signatures and numbers here never change, new ones are added.
#![allow(non_camel_case_types)]
// What the C caller must keep to is in each function's text, which is the header's, and at the head of the header.
#![allow(clippy::missing_safety_doc)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod args;
mod call;
mod handles;

// In the order of the header.
mod version;

mod status;

mod context;

mod model;

mod sample;

mod trainer;

mod device;

mod log;

#[cfg(test)]
mod tests;

pub use context::*;
pub use device::*;
pub use handles::{jempp_context, jempp_model, jempp_trainer};
pub use log::*;
pub use model::*;
pub use sample::*;
pub use status::*;
pub use trainer::*;
pub use version::*;
