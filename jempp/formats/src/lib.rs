//! File formats: conversions between bytes and arrays. This crate knows no model and no data set.
//!
//! - [`container`]: named tensors in safetensors files; [`npz`]: NumPy archives; [`torch`]: files of `torch.save`;
//!   [`pickle`]: Python pickles, read without executing them; [`mat`]: MATLAB level 5 files;
//! - [`images`]: image files as float32 arrays; [`codecs`]: the image decoders and encoders; [`grid`]: grids of images as PNG
//!   and GIF files; [`pixels`]: the scaling of bytes to inputs of networks; [`resize`]: images resized as by PIL;
//!   [`plot`]: charts as SVG;
//! - [`tensorboard`]: event files;
//! - [`kind`]: what a file is, for messages;
//! - [`files`]: atomic writes, hints for missing paths and the cache folder; [`stream`]: bounded decompression and archives;
//!   [`unpack`]: the bounds;
//!   [`place`]: file locations in error messages; [`edit`]: edit distance for suggestions.
//!
//! Invariant: every file is untrusted. Sizes in headers are checked before memory is allocated for them, nothing in a
//! file is executed, and every error names the file.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod codecs;
pub mod container;
pub mod edit;
mod error;
pub mod files;
pub mod grid;
pub mod images;
pub mod kind;
pub mod mat;
pub mod npz;
pub mod pickle;
pub mod pixels;
pub mod place;
pub mod plot;
pub mod resize;
pub mod stream;
pub mod tensorboard;
pub mod torch;
pub mod unpack;

pub use error::{Error, Result};
