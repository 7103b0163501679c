//! cuDNN's graph API: operations on tensors that cuDNN compiles into one or a few kernels. Convolutions run by it, batch norm if
//! that is chosen, and
//! `gpu-check` measures what it makes of convolutions with their neighbours.

mod builder;
mod choice;
mod convolution;
mod descriptor;
mod deviceless;
mod engine;
mod graph;
mod norm;
mod patterns;
mod plan;

pub use choice::ConvChoice;
pub use convolution::{ConvPass, ConvSpec, Convolution};
pub use deviceless::{EnginePlan, conv_plans_for, norm_plan_for, plans_for};
pub use norm::{Norm, NormForward, NormGradient, NormSpec};
pub use patterns::{Fused, PATTERNS, Pattern};
