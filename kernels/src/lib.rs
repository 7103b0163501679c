//! The arithmetic of jempp.
//!
//! Slices and device buffers in and out; no graph, no variables. All numeric `unsafe` of the project lives
//! in this crate. [`ops`] has one file an op: its arguments, its CPU arm and (beside it) its CUDA arm.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod conv_shape;
pub mod cpu;
pub mod dtype;
pub mod gpu;
pub mod memory;
pub mod mmap;
pub mod ops;
pub mod philox;
pub mod profile;
