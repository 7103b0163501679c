//! Data sets: images with labels, how they are read, split, cached and put into batches.
//!
//! [`load()`] reads what the `data` section of the configuration ([`config::DataConfig`]) names; [`Loader`] gives shuffled
//! batches of indices; [`synthetic`] makes out-of-distribution images from a data set.
//!
//! Invariant: a [`Dataset`] is consistent (sizes agree, labels are below `classes`), and everything random here
//! depends on integers only (seed, stream, step or epoch, position), never on threads or on what ran before.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod bytes;
mod cache;
pub mod config;
mod dataset;
pub mod digits;
pub mod eval_stream;
mod folder;
mod load;
pub mod loader;
pub mod mt19937;
mod readers;
mod source;
mod spread;
pub mod streams;
pub mod synthetic;
pub mod untrusted;

pub use bytes::Bytes;
pub use cache::default_cache;
pub use dataset::{Dataset, Split, hold_back, plain_batch};
pub use jempp_formats::pixels::value;
pub use jempp_formats::{Error, Result};
pub use load::{Loaded, Origin, Reading, load, load_with};
pub use loader::{Cursor, Loader, first_per_class};
