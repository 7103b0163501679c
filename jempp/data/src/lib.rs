//! Data sets of labelled images: how they are read, split, cached and batched.
//!
//! - [`load()`] and [`load_with`] read the data set that [`config::DataConfig`], the `data` section of the configuration,
//!   names, with the options in [`Reading`]; [`digits`] is built in;
//! - [`Dataset`] and [`Split`] are the result; [`first_per_class`], [`balanced`] and [`plain_batch`] select from them;
//! - [`Loader`] yields shuffled batches of indices;
//! - [`synthetic`] generates out-of-distribution images from a data set;
//! - [`streams`] numbers the random streams of the workspace;
//! - [`config`] also has the macros with which all sections of the configuration are defined;
//! - [`untrusted`] gives fuzzers access to the parsers.
//!
//! Invariant: a [`Dataset`] is consistent (sizes agree, labels are below the number of classes), and all randomness
//! here is determined by integers (seed, stream, step or epoch, position), never by threads or by what ran before.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod bytes;
mod cache;
mod classes;
pub mod config;
mod dataset;
mod digest;
pub mod digits;
pub mod eval_stream;
mod folder;
mod load;
mod loader;
mod mt19937;
mod readers;
mod reading;
mod source;
mod spread;
pub mod streams;
pub mod synthetic;
pub mod untrusted;

pub use bytes::Bytes;
pub use classes::ClassMatch;
pub use dataset::{Dataset, Split, plain_batch};
pub use jempp_formats::pixels::value;
pub use jempp_formats::{Error, Result};
pub use load::{Loaded, Origin, load, load_with};
pub use loader::{Cursor, Loader, balanced, first_per_class};
pub use reading::Reading;
