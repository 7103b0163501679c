//! Checkpoints: named tensors as safetensors files.

mod container;
mod format;
pub mod layout;

#[cfg(test)]
mod tests;

pub use container::{Container, Tensor, TensorData};
