//! cuDNN's graph API: operations on tensors that cuDNN compiles into one or a few kernels.

mod builder;
mod descriptor;
mod patterns;
mod plan;

pub use patterns::{Fused, PATTERNS, Pattern, plans_for};
