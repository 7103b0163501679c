//! The arithmetic of jempp.
//!
//! Slices and device buffers in and out; no graph, no variables. All numeric `unsafe` of the project lives
//! in this crate. One file a stem: its arguments, its CPU arm and (beside it) its CUDA arm.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod cpu;
pub mod philox;
