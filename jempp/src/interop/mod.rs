//! Models from and for other programs: published checkpoints of PyTorch, ONNX, and conversion between them.

pub mod convert;
pub mod onnx;
pub mod torch;
