//! Checkpoints: what a run needs to go on bit by bit, and what a model needs to be served.
//!
//! A run keeps them in its folder `ckpt`:
//! ```text
//! ckpt/step_N/model.safetensors    inference weights and all that is needed to serve from this file alone
//!             trainer.safetensors  raw weights, optimiser, replay buffer
//!             state.json           counters of randomness, schedule, configuration
//!             manifest.json        sizes and checksums of the others
//! ckpt/last, ckpt/best             links to such folders; where there are no links, text files with their names
//! ```
//!
//! Invariants: a folder `step_N` is whole from the moment it has this name. Whatever operation fails, and wherever the
//! machine stops, [`load_last`] finds the old checkpoint or the new one. Names that start with a dot are unfinished
//! business of [`save`], which tidies them up next time. One process at a time writes into a `ckpt`; any may read.

mod disk;
mod load;
mod lock;
mod manifest;
mod names;
mod resolve;
mod save;
mod view;

#[cfg(test)]
mod tests;

use crate::error::Error;
use jempp_formats::container::Container;
use std::path::{Path, PathBuf};

pub use load::{load, load_last, load_model, load_trainer, model_from_bytes, verify};
pub(crate) use lock::FolderLock;
pub use names::steps;
pub use resolve::resolve_model;
pub use save::save;
pub use view::View;

/// Name of the model's file in a checkpoint.
pub const MODEL: &str = "model.safetensors";
/// Name of the trainer's file in a checkpoint.
pub const TRAINER: &str = "trainer.safetensors";
/// Name of the file with everything that is no tensor.
pub const STATE: &str = "state.json";
/// Name of the list of the others.
pub const MANIFEST: &str = "manifest.json";

/// A checkpoint read from disk, its checksums verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The folder.
    pub dir: PathBuf,
    /// The training step that it was taken after.
    pub step: u64,
    /// What to serve.
    pub model: Container,
    /// What to go on training with.
    pub trainer: Container,
    /// Everything that is no tensor.
    pub state: serde_json::Value,
}

/// A file of a checkpoint is not what it should be.
fn damaged(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::Format(format!("{}: {why}", path.display()))
}
