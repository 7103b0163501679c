//! A cache of decoded data sets, one file each, which later runs map instead of decoding the images again.
//!
//! Layout, little-endian: magic bytes (8), version, length of the header and its CRC-32C (4 each), the header as JSON,
//! the labels (2 bytes per image), the images. Invariants: the file is untrusted: no more than its length is allocated,
//! and nothing is used unless both checksums match; files are replaced and never written in place, so that they can be
//! mapped; a failing cache never makes a run fail.

use crate::bytes::Bytes;
use crate::dataset::Dataset;
use crate::digest::Digest;
use crate::source::Parts;
use engine::Mmap;
use jempp_formats::files::write_atomic;
use jempp_formats::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"JEMPPIMG";
const VERSION: u32 = 3;
/// Offset of the header in bytes.
const FIXED: usize = 20;

/// The header of a cache file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// The data set's path and reading options, which distinguish cache files whose names collide.
    path: String,
    /// The digest of the data set's files, in hexadecimal.
    files: String,
    /// Description of the data set's format.
    kind: String,
    size: [usize; 3],
    images: usize,
    parts: Parts,
    classes: usize,
    class_names: Vec<String>,
    /// Warnings for the user about the data set.
    warnings: Vec<String>,
    /// [`Dataset::crc32c`].
    crc32c: u32,
}

/// A data set with what the cache stores about it.
#[derive(Debug)]
pub(super) struct Kept {
    /// The images and labels.
    pub set: Dataset,
    /// Sizes of its parts.
    pub parts: Parts,
    /// Description of the data set's format.
    pub kind: String,
    /// Warnings for the user about the data set.
    pub warnings: Vec<String>,
}

/// The result of a cache lookup.
#[derive(Debug)]
pub(super) enum Found {
    /// The cached data set.
    Whole(Box<Kept>),
    /// There is no entry.
    Nothing,
    /// The files of the data set have changed since it was cached.
    Stale,
    /// The entry is unusable, for this reason.
    Bad(String),
}

/// The cache entry of one data set.
#[derive(Debug)]
pub(super) struct Cache {
    /// The cache file.
    pub file: PathBuf,
    path: String,
    stamp: u64,
}

impl Cache {
    /// The entry in `folder` for the data set at `root`, read with `options`. `stamp` is a digest of its files.
    ///
    /// # Errors
    /// [`Error::Io`] if `root` has no canonical path.
    pub(super) fn new(folder: &Path, root: &Path, options: &str, stamp: u64) -> Result<Self> {
        let root = fs::canonicalize(root).map_err(|e| Error::io(root, e))?;
        let mut key = Digest::new();
        key.add(root.as_os_str().as_encoded_bytes());
        key.add(options.as_bytes());
        let path = format!("{}{}{options}", root.display(), if options.is_empty() { "" } else { ", " });
        Ok(Self { file: folder.join(format!("{:016x}.images", key.0)), path, stamp })
    }

    /// Looks up the data set, which will be called `name`.
    pub(super) fn read(&self, name: &str) -> Found {
        match self.try_read(name) {
            Ok(found) => found,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Found::Nothing,
            Err(e) => Found::Bad(e.to_string()),
        }
    }

    fn try_read(&self, name: &str) -> io::Result<Found> {
        let bad = |why: &str| io::Error::new(ErrorKind::InvalidData, why.to_string());
        let short = || bad("it is cut short");
        let file = File::open(&self.file)?;
        if file.metadata()?.len() < FIXED as u64 {
            return Err(short());
        }
        let map = Mmap::map(&file)?;
        let word = |i: usize| u32::from_le_bytes([map[i], map[i + 1], map[i + 2], map[i + 3]]);
        if map[..8] != *MAGIC {
            return Err(bad("it is not a cache of a data set"));
        }
        if word(8) != VERSION {
            return Err(bad("it was written by another version"));
        }
        let (header, rest) = map[FIXED..].split_at_checked(word(12) as usize).ok_or_else(short)?;
        if crc32c::crc32c(header) != word(16) {
            return Err(bad("its header is corrupt"));
        }
        let header: Header = serde_json::from_slice(header).map_err(|e| bad(&e.to_string()))?;
        if header.path != self.path || header.files != hex(self.stamp) {
            return Ok(Found::Stale);
        }
        let n = header.images;
        let pixels = header.size.iter().try_fold(1usize, |p, s| p.checked_mul(*s));
        let bytes = pixels.and_then(|p| p.checked_add(2)?.checked_mul(n));
        if bytes != Some(rest.len()) {
            return Err(bad("it is cut short or too long"));
        }
        if header.parts.total() != n {
            return Err(bad("its number of images is inconsistent"));
        }
        let labels = rest[..2 * n].chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        let start = map.len() - (rest.len() - 2 * n);
        let mut set = Dataset::new(name, header.size, header.classes, Bytes::mapped(map, start), labels)
            .map_err(|e| bad(&e.to_string()))?;
        if !header.class_names.is_empty() {
            set = set.with_class_names(header.class_names).map_err(|e| bad(&e.to_string()))?;
        }
        if set.crc32c() != header.crc32c {
            return Err(bad("its images are corrupt"));
        }
        Ok(Found::Whole(Box::new(Kept {
            set,
            parts: header.parts,
            kind: header.kind,
            warnings: header.warnings,
        })))
    }

    /// Stores a data set.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be created or written.
    pub(super) fn write(&self, kept: &Kept) -> Result<()> {
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        }
        let set = &kept.set;
        let header = Header {
            path: self.path.clone(),
            files: hex(self.stamp),
            kind: kept.kind.clone(),
            size: set.size(),
            images: set.len(),
            parts: kept.parts,
            classes: set.classes(),
            class_names: set.class_names().to_vec(),
            warnings: kept.warnings.clone(),
            crc32c: set.crc32c(),
        };
        let header = serde_json::to_vec(&header).map_err(|e| Error::Internal(e.to_string()))?;
        let labels: Vec<u8> = set.labels().iter().flat_map(|l| l.to_le_bytes()).collect();
        write_atomic(&self.file, |w| {
            w.write_all(MAGIC)?;
            for word in [VERSION, header.len() as u32, crc32c::crc32c(&header)] {
                w.write_all(&word.to_le_bytes())?;
            }
            w.write_all(&header)?;
            w.write_all(&labels)?;
            w.write_all(set.images())
        })
    }
}

fn hex(digest: u64) -> String {
    format!("{digest:016x}")
}
