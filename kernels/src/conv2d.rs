//! 2-D convolution (cross-correlation, as in deep learning): NHWC images, K×R×S×C filters, zero padding; its
//! gradients with respect to input and filters are kernels of their own. Linear layers are the 1×1 case.
//!
//! The CPU arms are prepared objects; see [`crate::cpu::conv`] for how they work.

pub use crate::cpu::conv::{Add, Conv, ConvShape, ConvWeightGrad};
