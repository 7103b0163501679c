//! Digests that detect changed files and name cache files.

use jempp_formats::{Error, Result};
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

/// An incremental 64-bit FNV-1a hash (Fowler, Noll & Vo) of a sequence of strings; stable across versions.
pub(super) struct Digest(pub u64);

impl Digest {
    /// The digest of the empty sequence.
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds a string and its length, so that ("ab", "c") and ("a", "bc") differ.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for b in bytes.iter().chain(&(bytes.len() as u64).to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// A digest of the names, sizes and modification times of files.
///
/// # Errors
/// [`Error::Io`] if the metadata of one cannot be read.
pub(crate) fn stamp(files: &[PathBuf]) -> Result<u64> {
    let mut digest = Digest::new();
    for path in files {
        let about = fs::metadata(path).map_err(|e| Error::io(path, e))?;
        let modified = about.modified().map_err(|e| Error::io(path, e))?;
        let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        digest.add(path.file_name().unwrap_or_default().as_encoded_bytes());
        digest.add(&about.len().to_le_bytes());
        digest.add(&since.as_nanos().to_le_bytes());
    }
    Ok(digest.0)
}
