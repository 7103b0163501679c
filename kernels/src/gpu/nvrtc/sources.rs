//! The source of every kernel, embedded in the program: one file per op, and the headers that they include.
//!
//! What must hold: every file of `kernels/cuda` is listed here; a test compares.

/// The headers that kernels may include: name and text.
pub const HEADERS: &[(&str, &str)] = &[
    ("common.cuh", include_str!("../../../cuda/common.cuh")),
    ("philox.cuh", include_str!("../../../cuda/philox.cuh")),
    ("rows.cuh", include_str!("../../../cuda/rows.cuh")),
    ("softmax.cuh", include_str!("../../../cuda/softmax.cuh")),
    ("windows.cuh", include_str!("../../../cuda/windows.cuh")),
];

macro_rules! sources {
    ($($op:literal)*) => {
        &[$((concat!($op, ".cu"), include_str!(concat!("../../../cuda/", $op, ".cu")))),*]
    };
}

/// Every kernel source file: name and text.
pub const SOURCES: &[(&str, &str)] = sources![
    "adam" "augment" "avg_pool2d" "batch" "batch_norm" "bias_offset" "bn_coeffs" "bn_running_update" "bn_stats" "cast" "concat" "conv2d" "counter" "delay"
    "dropout"
    "elementwise" "global_avg_pool" "grad_norm" "label" "layer_stats" "leaky_relu" "logsumexp" "max_pool2d" "noise" "pyld_step" "reduce" "replay" "scale_shift_leaky"
    "sgd" "softmax_cross_entropy" "softplus"
];

/// The text of a kernel source file, by name (`conv2d.cu`).
#[must_use]
pub fn source(file: &str) -> Option<&'static str> {
    SOURCES.iter().find(|(name, _)| *name == file).map(|&(_, text)| text)
}
