//! Published checkpoints of PyTorch, in and out. How files of `torch.save` are read is in [`jempp_formats::torch`].

mod infer;
mod moments;
mod write;

#[cfg(test)]
mod tests;

pub use infer::{Hints, model};
pub use moments::floats;
pub use moments::{Moments, moments};
pub use write::write;
