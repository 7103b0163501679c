//! Paths in JSON: names that are no UTF-8 are written with replacement characters instead of being an error.

use serde::{Serialize, Serializer};
use std::path::{Path, PathBuf};

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Writes a path.
///
/// # Errors
/// Those of the serializer.
pub(crate) fn one<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    text(path).serialize(to)
}

/// Writes a list of paths.
///
/// # Errors
/// Those of the serializer.
pub(crate) fn several<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
    paths.iter().map(|p| text(p)).collect::<Vec<_>>().serialize(to)
}

/// Writes a path that may be missing.
///
/// # Errors
/// Those of the serializer.
pub(crate) fn optional<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    path.as_deref().map(text).serialize(to)
}
