//! Decoded data sets in one file each, so that the next run need not decode them.
//!
//! Layout, little-endian: magic (8 bytes), version, length of the header and its CRC-32C (4 each), the header in JSON,
//! a label (2 bytes) an image, the images. Invariants: the file is taken for hostile: nothing is allocated beyond its
//! own length, and nothing is used unless both checksums hold; a cache never makes a run fail.

use super::list::{Digest, Listing};
use super::spread::spread;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const MAGIC: &[u8; 8] = b"JEMPPIMG";
const VERSION: u32 = 1;
/// Bytes before the header.
const FIXED: usize = 20;
/// Bytes that a thread reads at a time.
const PART: usize = 1 << 23;

/// What the header says.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// The data set's folder, since two may have one hash.
    path: String,
    /// [`Listing::digest`] in hexadecimal.
    files: String,
    size: [usize; 3],
    train: usize,
    images: usize,
    classes: Vec<String>,
    /// [`Dataset::crc32c`].
    crc32c: u32,
}

/// What a look into the cache finds.
#[derive(Debug)]
pub(super) enum Found {
    /// The data set.
    Whole(Box<Dataset>),
    /// Nothing.
    Nothing,
    /// The data set as it was before its files changed.
    Stale,
    /// Something that cannot be used, and why.
    Bad(String),
}

/// Where caches are kept: `$JEMPP_CACHE_DIR`, else `$XDG_CACHE_HOME/jempp`, else `~/.cache/jempp`.
pub(super) fn default_folder(
    var: impl Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
) -> Option<PathBuf> {
    let set = |name| var(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    // The XDG specification has relative paths ignored.
    let xdg = || set("XDG_CACHE_HOME").filter(|p| p.is_absolute()).map(|p| p.join("jempp"));
    set("JEMPP_CACHE_DIR").or_else(xdg).or_else(|| home.map(|h| h.join(".cache/jempp")))
}

/// The cache of one data set.
#[derive(Debug)]
pub(super) struct Cache {
    /// Its file.
    pub file: PathBuf,
    path: String,
}

impl Cache {
    /// That in `folder` of the data set in `root`.
    ///
    /// # Errors
    /// [`Error::Io`] if `root` has no canonical path.
    pub(super) fn new(folder: &Path, root: &Path) -> Result<Self> {
        let root = fs::canonicalize(root).map_err(|e| Error::io(root, e))?;
        let mut key = Digest::new();
        key.add(root.as_os_str().as_encoded_bytes());
        Ok(Self {
            file: folder.join(format!("{:016x}.images", key.0)),
            path: root.to_string_lossy().into_owned(),
        })
    }

    /// The data set `name`, if it is there and as `listing` says; read on `threads` threads.
    pub(super) fn read(&self, name: &str, listing: &Listing, threads: usize) -> Found {
        match self.try_read(name, listing, threads) {
            Ok(found) => found,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Found::Nothing,
            Err(e) => Found::Bad(e.to_string()),
        }
    }

    fn try_read(&self, name: &str, listing: &Listing, threads: usize) -> io::Result<Found> {
        let bad = |why: &str| io::Error::new(ErrorKind::InvalidData, why.to_string());
        let mut file = File::open(&self.file)?;
        let length = file.metadata()?.len();
        let mut fixed = [0; FIXED];
        file.read_exact(&mut fixed).map_err(|_| bad("it is cut short"))?;
        let word = |i: usize| u32::from_le_bytes([fixed[i], fixed[i + 1], fixed[i + 2], fixed[i + 3]]);
        if fixed[..8] != *MAGIC {
            return Err(bad("it is no cache of a data set"));
        }
        if word(8) != VERSION {
            return Err(bad("it was written by another version"));
        }
        let rest = length.saturating_sub(FIXED as u64);
        let header = take(&mut file, u64::from(word(12)), rest)?;
        if crc32c::crc32c(&header) != word(16) {
            return Err(bad("its header is corrupt"));
        }
        let header: Header = serde_json::from_slice(&header).map_err(|e| bad(&e.to_string()))?;
        let fresh = header.path == self.path && header.files == hex(listing.digest);
        if !fresh {
            return Ok(Found::Stale);
        }
        let n = header.images as u64;
        let pixels = header.size.iter().try_fold(1u64, |p, s| p.checked_mul(*s as u64));
        let bytes = pixels.and_then(|p| p.checked_mul(n));
        let rest = rest - u64::from(word(12));
        if bytes.and_then(|b| b.checked_add(2 * n)) != Some(rest) {
            return Err(bad("it is cut short or too long"));
        }
        if (header.images, header.train) != (listing.files.len(), listing.train) {
            return Err(bad("it has another number of images"));
        }
        let labels = take(&mut file, 2 * n, rest)?;
        let labels = labels.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        let start = length - (rest - 2 * n);
        let images = self.take_images(start, rest - 2 * n, threads)?;
        let set = Dataset::new(name, header.size, header.classes.len(), images, labels)
            .and_then(|s| s.with_class_names(header.classes))
            .map_err(|e| bad(&e.to_string()))?;
        if set.crc32c() != header.crc32c {
            return Err(bad("its images are corrupt"));
        }
        Ok(Found::Whole(Box::new(set)))
    }

    /// The `n` bytes from `start` on, which the file has. Several threads, since most of the time goes into giving the
    /// memory to the program.
    fn take_images(&self, start: u64, n: u64, threads: usize) -> io::Result<Vec<u8>> {
        let n = usize::try_from(n).map_err(io::Error::other)?;
        let mut images = vec![0; n];
        let parts: Vec<_> = images.chunks_mut(PART).map(Mutex::new).collect();
        let work = |i: usize| {
            let mut part = parts[i].lock().unwrap_or_else(PoisonError::into_inner);
            let read = File::open(&self.file).and_then(|mut f| {
                f.seek(SeekFrom::Start(start + (i * PART) as u64))?;
                f.read_exact(&mut part)
            });
            read.map_err(|e| Error::io(&self.file, e))
        };
        spread(threads, parts.len(), work, &mut |_| {}).map_err(io::Error::other)?;
        drop(parts);
        Ok(images)
    }

    /// Keeps a data set.
    ///
    /// # Errors
    /// [`Error::Io`] when its folder cannot be made or written.
    pub(super) fn write(&self, set: &Dataset, listing: &Listing) -> Result<()> {
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        }
        let header = Header {
            path: self.path.clone(),
            files: hex(listing.digest),
            size: set.size(),
            train: listing.train,
            images: set.len(),
            classes: set.class_names().to_vec(),
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

/// The next `n` bytes, if the file has so many: `rest` are left of it.
fn take(file: &mut File, n: u64, rest: u64) -> io::Result<Vec<u8>> {
    let short = || io::Error::new(ErrorKind::InvalidData, "it is cut short");
    let room = usize::try_from(n).ok().filter(|_| n <= rest).ok_or_else(short)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(room)?;
    file.take(n).read_to_end(&mut bytes)?;
    if bytes.len() == room { Ok(bytes) } else { Err(short()) }
}
