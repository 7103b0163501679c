//! The ops, one file each: arguments, CPU backend and CUDA backend side by side.
//!
//! `grouped` and [`windows`] hold what several ops use.

pub mod adam;
pub mod augment;
pub mod avg_pool2d;
pub mod batch;
pub mod batch_norm;
pub mod bias_offset;
pub mod bn_coeffs;
pub mod bn_running_update;
pub mod bn_stats;
pub mod cast;

pub mod concat;
pub mod conv2d;
pub mod counter;
pub mod dropout;
pub mod elementwise;
pub mod fused_conv2d;
pub mod global_avg_pool;
pub mod grad_norm;
pub(crate) mod grouped;
pub mod label;
pub mod layer_stats;
pub mod leaky_relu;
pub mod logsumexp;
pub mod max_pool2d;
pub mod noise;
pub mod pyld_step;
pub mod reduce;
pub mod replay;
pub mod scale_shift_leaky;
pub mod sgd;
pub mod softmax_cross_entropy;
pub mod softplus;
pub mod windows;
