//! Checkpoints: everything needed to resume a run with bit-identical results, and to serve its model.
//!
//! A run stores them in its folder `ckpt`:
//! ```text
//! ckpt/step_N/model.safetensors    inference weights and everything else needed to serve the model
//!             trainer.safetensors  raw weights, optimiser state, replay buffer
//!             state.json           counters of the random streams, schedule, configuration
//!             manifest.json        sizes and checksums of the other files
//! ckpt/last, ckpt/best             symbolic links to such folders, or text files with their names
//! ```
//!
//! Invariants: a folder `step_N` is complete from the moment it has this name. Whichever operation fails, and whenever
//! the machine stops, [`load_last`] finds the old checkpoint or the new one. Names that start with a dot are left over
//! from an interrupted [`save`], and the next one cleans them up. One process at a time writes to a `ckpt`; any number
//! may read.

mod disk;
mod lazy;
mod load;
mod lock;
mod manifest;
mod names;
mod resolve;
mod save;

#[cfg(test)]
mod tests;

use crate::error::Error;
use jempp_formats::container::Container;
use std::path::{Path, PathBuf};

pub(crate) use lazy::FileBytes;
pub use lazy::LazyReader;
pub(crate) use load::open_model;
pub use load::{load, load_last, load_trainer, verify};
pub(crate) use lock::FolderLock;
pub use names::steps;
pub use resolve::resolve_model;
pub(crate) use save::remove_after;
pub use save::save;

/// Name of the model's file in a checkpoint.
pub const MODEL: &str = "model.safetensors";
/// Name of the trainer's file in a checkpoint.
pub const TRAINER: &str = "trainer.safetensors";
/// Name of the file with everything but tensors.
pub const STATE: &str = "state.json";
/// Name of the list of the other files, with their sizes and checksums.
pub const MANIFEST: &str = "manifest.json";

/// A checkpoint read from disk, with its checksums verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Its folder.
    pub dir: PathBuf,
    /// The training step that it was taken after.
    pub step: u64,
    /// The content of the model file, for inference.
    pub model: Container,
    /// The content of the trainer's file, for resuming training.
    pub trainer: Container,
    /// The content of the state file: everything but tensors.
    pub state: serde_json::Value,
}

/// The error for a damaged file of a checkpoint.
fn damaged(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::Format(format!("{}: {why}", path.display()))
}
