//! Digests that detect changed files and name cache files.

use jempp_formats::{Error, Result};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files of at most this many bytes are read for a digest, which then does not depend on what a file system keeps.
const CHEAP: u64 = 4 << 20;

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

/// What a file system says of a file's content: length, time of modification and, where there are such, the file's number and
/// the time of its last change, which cannot be set. A file that is put in another's place, with the same length and time of
/// modification, differs in the last two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version([i128; 4]);

impl Version {
    pub(crate) fn of(path: &Path, about: &Metadata) -> Result<Self> {
        let modified = nanoseconds(about.modified().map_err(|e| Error::io(path, e))?);
        #[cfg(unix)]
        let [number, changed] = {
            use std::os::unix::fs::MetadataExt;
            let changed = i128::from(about.ctime()) * 1_000_000_000 + i128::from(about.ctime_nsec());
            [i128::from(about.ino()), changed]
        };
        #[cfg(not(unix))]
        let [number, changed] = [0; 2];
        Ok(Self([i128::from(about.len()), modified, number, changed]))
    }

    /// Adds it to a digest.
    pub(crate) fn add_to(self, digest: &mut Digest) {
        self.0.iter().for_each(|v| digest.add(&v.to_le_bytes()));
    }
}

fn nanoseconds(time: SystemTime) -> i128 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(d) => d.as_nanos() as i128,
        Err(e) => -(e.duration().as_nanos() as i128),
    }
}

/// A digest of the names and versions of a few files, and of the content of short ones.
///
/// # Errors
/// [`Error::Io`] if one cannot be read.
pub(crate) fn stamp(files: &[PathBuf]) -> Result<u64> {
    let mut digest = Digest::new();
    for path in files {
        let about = fs::metadata(path).map_err(|e| Error::io(path, e))?;
        digest.add(path.file_name().unwrap_or_default().as_encoded_bytes());
        Version::of(path, &about)?.add_to(&mut digest);
        if about.len() <= CHEAP {
            let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
            digest.add(&crc32c::crc32c(&bytes).to_le_bytes());
        }
    }
    Ok(digest.0)
}
