//! The arithmetic of jempp, for CPUs and NVIDIA GPUs.
//!
//! Functions take and return slices and device buffers; there is no graph and there are no variables. All numeric
//! `unsafe` code of the project is in this crate. [`ops`] has one file per op: its arguments, its CPU backend and,
//! beside it, its CUDA backend.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod cache_folder;
pub(crate) mod conv_shape;
pub mod cpu;
pub mod dtype;
pub mod gpu;
pub mod memory;
pub mod mmap;
pub mod ops;
pub mod philox;
pub mod profile;
