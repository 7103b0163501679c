//! Exchange with other programs: writing PyTorch checkpoints and ONNX files, and conversion between formats.

pub mod convert;
pub mod onnx;
pub mod torch;
