//! PyTorch files: writing a model as a published checkpoint, and reading the published class means and covariances.
//! Published checkpoints are read by [`crate::model::published`], files of `torch.save` by [`jempp_formats::torch`].

mod moments;
mod write;

#[cfg(test)]
mod tests;

pub use moments::{Moments, floats, moments};
pub use write::write;
