//! The arithmetic of jempp.
//!
//! Slices and device buffers in and out; no graph, no variables. All numeric `unsafe` of the project lives
//! in this crate. One file a stem: its arguments, its CPU arm and (beside it) its CUDA arm.

pub mod gpu;
pub mod philox;
