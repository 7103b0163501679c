//! The text of every kernel, in the program itself: one file a stem, and the headers that they include.
//!
//! What must hold: every file of `kernels/cuda` stands here; a test compares.

/// What kernels may include, by name.
pub const HEADERS: &[(&str, &str)] = &[
    ("common.cuh", include_str!("../../cuda/common.cuh")),
    ("philox.cuh", include_str!("../../cuda/philox.cuh")),
    ("rows.cuh", include_str!("../../cuda/rows.cuh")),
    ("softmax.cuh", include_str!("../../cuda/softmax.cuh")),
    ("windows.cuh", include_str!("../../cuda/windows.cuh")),
];

macro_rules! sources {
    ($($stem:literal)*) => {
        &[$((concat!($stem, ".cu"), include_str!(concat!("../../cuda/", $stem, ".cu")))),*]
    };
}

/// Every file of kernels, by name.
pub const SOURCES: &[(&str, &str)] = sources![
    "adam" "augment" "avg_pool2d" "batch" "bn_coeffs" "bn_running_update" "bn_stats" "cast" "concat" "conv2d" "counter" "dropout"
    "elementwise" "global_avg_pool" "label" "layer_stats" "leaky_relu" "logsumexp" "max_pool2d" "noise" "pyld_step" "reduce" "replay" "scale_shift_leaky"
    "sgd" "softmax_cross_entropy"
];

/// The text of the file of a stem.
#[must_use]
pub fn source(file: &str) -> Option<&'static str> {
    SOURCES.iter().find(|(name, _)| *name == file).map(|&(_, text)| text)
}
