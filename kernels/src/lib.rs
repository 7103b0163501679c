//! The arithmetic of jempp.
//!
//! Slices and device buffers in and out; no graph, no variables. All numeric `unsafe` of the project lives
//! in this crate. One file a stem: its arguments, its CPU arm and (beside it) its CUDA arm.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod adam;
pub mod augment;
pub mod avg_pool2d;
pub mod batch;
pub mod bn_coeffs;
pub mod bn_running_update;
pub mod bn_stats;
pub mod cast;
pub mod channels;
pub mod concat;
pub mod conv2d;
pub mod counter;
pub mod cpu;
pub mod dropout;
pub mod elementwise;
pub mod fused_conv2d;
pub mod global_avg_pool;
pub mod gpu;
pub mod label;
pub mod layer_stats;
pub mod leaky_relu;
pub mod logsumexp;
pub mod map;
pub mod max_pool2d;
pub mod memory;
pub mod noise;
pub mod philox;
pub mod profile;
pub mod pyld_step;
pub mod reduce;
pub mod replay;
pub mod scale_shift_leaky;
pub mod sgd;
pub mod softmax_cross_entropy;
pub mod windows;
