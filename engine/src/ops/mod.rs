//! The ops, a file for each op with its gradients: shape rules and gradients here, arithmetic in `kernels`.
//!
//! The list at the end is the registry. Each file in it has a function `cases`, from which tests (shape errors, float64
//! gradient check, SIMD levels against float64) and benchmarks are generated.

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
mod grouped;
pub mod label;
pub mod layer_stats;
pub mod leaky_relu;
pub mod linear;
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
mod updates;

use crate::case::Cases;

macro_rules! registry {
    ($($op:ident),* $(,)?) => {
        vec![$((stringify!($op), $op::cases())),*]
    };
}

/// The name and the cases of every op (a file of `engine/src/ops`, which also defines its gradients).
pub fn registry() -> Vec<(&'static str, Cases)> {
    registry![
        adam,
        augment,
        avg_pool2d,
        batch,
        batch_norm,
        bias_offset,
        bn_coeffs,
        bn_running_update,
        bn_stats,
        cast,
        concat,
        conv2d,
        counter,
        dropout,
        elementwise,
        fused_conv2d,
        global_avg_pool,
        grad_norm,
        label,
        layer_stats,
        leaky_relu,
        linear,
        logsumexp,
        max_pool2d,
        noise,
        pyld_step,
        reduce,
        replay,
        scale_shift_leaky,
        sgd,
        softmax_cross_entropy,
        softplus,
    ]
}
