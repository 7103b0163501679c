//! Bytes ↔ arrays: the file formats that jempp reads and writes. Knows no model and no data set.
//!
//! - [`container`]: named tensors in safetensors files; [`npz`]: NumPy archives; [`torch`]: files of `torch.save`, read by
//!   [`pickle`], which never calls anything that a pickle names; [`mat`]: MATLAB 5 arrays;
//! - [`images`]: image files as float32 values; [`grid`]: grids of images as PNG and GIF; [`plot`]: charts as SVG;
//! - [`tensorboard`]: event files; [`files`]: atomic writes and hints for paths that lead nowhere.
//!
//! Invariant: every file is taken to be hostile. Nothing is allocated on the word of a header, nothing in a file is run,
//! and every error names the file.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod codecs;
pub mod container;
pub mod edit;
pub mod error;
pub mod files;
pub mod grid;
pub mod images;
pub mod mat;
pub mod npz;
pub mod pickle;
pub mod pixels;
pub mod place;
pub mod plot;
pub mod stream;
pub mod tensorboard;
pub mod torch;

pub use error::{Error, Result};
