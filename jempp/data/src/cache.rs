//! Decoded data sets in one file each, so that the next run need not decode them.
//!
//! Layout, little-endian: magic (8 bytes), version, length of the header and its CRC-32C (4 each), the header in JSON,
//! a label (2 bytes) an image, the images. Invariants: the file is taken for hostile: nothing is allocated beyond its
//! own length, and nothing is used unless both checksums hold; it is replaced, never written in place, so that it can
//! be mapped; a cache never makes a run fail.

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
const VERSION: u32 = 2;
/// Bytes before the header.
const FIXED: usize = 20;

/// What the header says.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// The data set's path and how it was asked for, since two may have one hash.
    path: String,
    /// [`Cache::stamp`] in hexadecimal.
    files: String,
    /// What kind of data set it is.
    kind: String,
    size: [usize; 3],
    images: usize,
    parts: Parts,
    classes: usize,
    class_names: Vec<String>,
    /// [`Dataset::crc32c`].
    crc32c: u32,
}

/// A data set that has been kept.
#[derive(Debug)]
pub(super) struct Kept {
    /// The images.
    pub set: Dataset,
    /// What they are for.
    pub parts: Parts,
    /// What kind of data set it is.
    pub kind: String,
}

/// What a look into the cache finds.
#[derive(Debug)]
pub(super) enum Found {
    /// The data set.
    Whole(Box<Kept>),
    /// Nothing.
    Nothing,
    /// The data set as it was before its files changed.
    Stale,
    /// Something that cannot be used, and why.
    Bad(String),
}

/// The cache of one data set.
#[derive(Debug)]
pub(super) struct Cache {
    /// Its file.
    pub file: PathBuf,
    path: String,
    stamp: u64,
}

impl Cache {
    /// That in `folder` of the data set in `root`, read with `options`; `stamp` changes when its files change.
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

    /// The data set, to be called `name`, if it is there and as its files are.
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
            return Err(bad("it is no cache of a data set"));
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
            return Err(bad("it has another number of images"));
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
        Ok(Found::Whole(Box::new(Kept { set, parts: header.parts, kind: header.kind })))
    }

    /// Keeps a data set.
    ///
    /// # Errors
    /// [`Error::Io`] when its folder cannot be made or written.
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
