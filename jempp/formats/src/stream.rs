//! Sequential readers: bounded decompression, checksums and the members of tar archives.
//!
//! Invariants: a compressed file unpacks to at most what [`Unpack`] allows; members of archives are never written to disk.

use crate::error::{Error, Result};
use crate::place::Place;
use crate::unpack::{RATIO, Unbounded, Unpack};
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Component, Path};

/// A file that computes the MD5 of the bytes read from it.
pub struct Summed {
    file: File,
    sum: md5::Context,
}

impl Read for Summed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(out)?;
        self.sum.consume(&out[..n]);
        Ok(n)
    }
}

impl Summed {
    /// Opens a file and returns its length in bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(path: &Path) -> Result<(Self, u64)> {
        let open = File::open(path).and_then(|f| f.metadata().map(|m| (f, m.len())));
        let (file, length) = open.map_err(|e| Error::io(path, e))?;
        Ok((Self { file, sum: md5::Context::new() }, length))
    }

    /// Reads the rest of the file `path` and returns the MD5 of all of it, in hexadecimal.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self, path: &Path) -> Result<String> {
        let mut rest = vec![0; 1 << 16];
        while self.read(&mut rest).map_err(|e| Error::io(path, e))? > 0 {}
        Ok(format!("{:x}", self.sum.finalize()))
    }
}

/// A reader that fails when its source unpacks to too many bytes.
pub struct Bounded<R> {
    inner: R,
    left: u64,
    unpack: Unpack,
}

impl<R: Read> Bounded<R> {
    /// Limits `inner`, which unpacks a file of `packed` bytes.
    pub fn new(inner: R, packed: u64, unpack: Unpack) -> Self {
        Self { inner, left: unpack.allowed(packed, RATIO), unpack }
    }

    /// Bytes that may still be read.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::new(ErrorKind::InvalidData, Unbounded::from(self.unpack))),
        }
        Ok(n)
    }
}

/// A bounded gzip decoder.
pub type Gz<R> = Bounded<MultiGzDecoder<BufReader<R>>>;

/// Decodes gzip from a file of `packed` bytes.
pub fn gz<R: Read>(from: R, packed: u64, unpack: Unpack) -> Gz<R> {
    Bounded::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, from)), packed, unpack)
}

/// Decodes zlib from `packed` bytes.
pub fn zlib<R: io::BufRead>(from: R, packed: u64, unpack: Unpack) -> Bounded<ZlibDecoder<R>> {
    Bounded::new(ZlibDecoder::new(from), packed, unpack)
}

/// A file that may be gzip-compressed; reads its decompressed bytes.
pub enum MaybeGz<R> {
    /// Not compressed.
    Plain(Bounded<BufReader<R>>),
    /// Compressed by gzip.
    Packed(Box<Gz<R>>),
}

impl<R: Read> MaybeGz<R> {
    /// Reads `from`, a file of `length` bytes, and decompresses it if `packed`.
    pub fn new(from: R, packed: bool, length: u64, unpack: Unpack) -> Self {
        if packed {
            Self::Packed(Box::new(gz(from, length, unpack)))
        } else {
            Self::Plain(Bounded::new(BufReader::with_capacity(1 << 16, from), length, Unpack::bytes(0)))
        }
    }

    /// Bytes that may still be read.
    pub fn left(&self) -> u64 {
        match self {
            Self::Plain(r) => r.left(),
            Self::Packed(r) => r.left(),
        }
    }

    /// The underlying file.
    pub fn into_inner(self) -> R {
        match self {
            Self::Plain(r) => r.inner.into_inner(),
            Self::Packed(r) => r.inner.into_inner().into_inner(),
        }
    }
}

impl<R: Read> Read for MaybeGz<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(r) => r.read(out),
            Self::Packed(r) => r.read(out),
        }
    }
}

/// Whether a file starts with the magic bytes of gzip.
pub fn is_gz(path: &Path) -> bool {
    starts_with(path, &[0x1f, 0x8b])
}

/// Whether a file starts with these bytes; false if it cannot be read.
pub fn starts_with(path: &Path, magic: &[u8]) -> bool {
    let mut start = vec![0; magic.len()];
    File::open(path).and_then(|mut f| f.read_exact(&mut start)).is_ok() && start == magic
}

/// The content of an archive's member.
pub type Member<'a> = &'a mut dyn Read;

/// Calls `each` with the base name, location, length and content of each file in a tar archive, in the archive's order.
///
/// # Errors
/// [`Error::Format`] when the archive is damaged, or has links or paths that lead out of it; [`Error::Io`]; those of
/// `each`.
pub fn members(
    place: &Place,
    from: impl Read,
    each: &mut dyn FnMut(&str, &Place, u64, Member<'_>) -> Result<()>,
) -> Result<()> {
    let mut archive = tar::Archive::new(from);
    let entries = archive.entries().map_err(|e| place.read_error(e))?;
    for entry in entries {
        let mut entry = entry.map_err(|e| place.read_error(e))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let here = place.member(&name);
        let path = Path::new(&name);
        // Nothing is unpacked to a folder here, but such an archive is malicious.
        if path.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
            return Err(here.damaged("the path leads out of the archive"));
        }
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            return Err(here.damaged("is neither a file nor a folder, but a link or device"));
        }
        let base = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let length = entry.size();
        each(&base, &here, length, &mut entry)?;
    }
    Ok(())
}

/// Checks that a member's declared `length` is at most `most`.
///
/// # Errors
/// [`Error::Data`] when it is longer.
pub fn fits(place: &Place, length: u64, most: u64) -> Result<usize> {
    match usize::try_from(length) {
        Ok(n) if length <= most => Ok(n),
        _ => Err(place.unfit(format!(
            "claims {length} bytes, more than the {most} that the archive may unpack to; it is damaged, or a larger \
             data.unpack_limit lets it in"
        ))),
    }
}

/// Reads all `length` bytes of a member, at most `most`.
///
/// # Errors
/// [`Error::Format`] when it is longer or cut short; [`Error::Io`].
pub fn whole(place: &Place, from: Member<'_>, length: u64, most: u64) -> Result<Vec<u8>> {
    let room = fits(place, length, most)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(room).map_err(|e| place.damaged(e))?;
    from.take(length).read_to_end(&mut bytes).map_err(|e| place.read_error(e))?;
    if bytes.len() == room {
        Ok(bytes)
    } else {
        Err(place.damaged(format!("is cut short at byte {}", bytes.len())))
    }
}
