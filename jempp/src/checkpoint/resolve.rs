//! Finding the model file for a path that a user gives.
//!
//! Invariant: for a path without a model, the error says what was looked for and what is there instead.

use super::names::{LAST, steps, target};
use super::{MANIFEST, MODEL};
use crate::error::{Error, Result};
use jempp_formats::files::hint;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Name of the folder of checkpoints in a run folder.
const CKPT: &str = "ckpt";

/// The model file that `path` stands for: a run folder (its `ckpt/last`), a `ckpt` folder (its `last`), a checkpoint
/// folder or pointer, or a file, which is returned as it is. If `last` points to nothing, the newest step that has a
/// model is used, with a warning in the log.
///
/// # Errors
/// [`Error::Data`] when there is nothing at `path`, or no model in it; [`Error::Io`].
pub fn resolve_model(path: &Path) -> Result<PathBuf> {
    match fs::metadata(path) {
        Ok(about) if about.is_dir() => in_folder(path),
        Ok(_) => match target(path) {
            // A pointer on a file system without links; any other file is left to its reader to check.
            Some(dir) if path.extension().is_none() && dir != path => in_folder(&dir),
            _ => Ok(path.to_path_buf()),
        },
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Err(missing(path)),
        Err(e) => Err(Error::io(path, e)),
    }
}

fn in_folder(dir: &Path) -> Result<PathBuf> {
    let model = dir.join(MODEL);
    if model.is_file() {
        return Ok(model);
    }
    for root in [dir.join(CKPT), dir.to_path_buf()] {
        if let Some(model) = in_root(&root)? {
            return Ok(model);
        }
    }
    let looked = format!("looked for {MODEL}, {CKPT}/{LAST}, {LAST} and step_* in it");
    Err(Error::Data(format!("{}: there is no model here ({looked})", dir.display())))
}

/// The model of the newest checkpoint in a `ckpt` folder.
fn in_root(root: &Path) -> Result<Option<PathBuf>> {
    let last = root.join(LAST);
    if let Some(model) = target(&last).map(|dir| dir.join(MODEL)).filter(|m| m.is_file()) {
        return Ok(Some(model));
    }
    let newest = steps(root)?.into_iter().rev().map(|(_, dir)| dir);
    let mut whole = newest.filter(|dir| dir.join(MANIFEST).is_file() && dir.join(MODEL).is_file());
    let found = whole.next().map(|dir| dir.join(MODEL));
    if let Some(model) = &found {
        tracing::warn!("{} does not point to a checkpoint; using {}", last.display(), model.display());
    }
    Ok(found)
}

/// The error for a path that does not exist: says which part of it does, and what there has a similar name.
fn missing(path: &Path) -> Error {
    let message = format!(
        "{}: there is no model (looked for a run's folder, a checkpoint's folder, a .safetensors or a .pt file)",
        path.display()
    );
    Error::Data(message + &hint(path))
}
