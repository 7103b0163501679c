//! Reading files from front to back: bounded unpacking, checksums, and members of tar archives.
//!
//! Invariants: what comes out of a compressed file is at most [`RATIO`] times as long as the file and [`MORE`] bytes; no
//! member is ever written anywhere, and only members with known names are read.

use crate::place::Place;
use crate::{Error, Result};
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Component, Path};

/// How much longer than the file its contents may be. Photographs take 1 to 2, digits on white 5.
pub const RATIO: u64 = 16;
/// Bytes that may come out of any file.
pub const MORE: u64 = 1 << 16;

/// A file that keeps the checksum of what has been read of it.
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
    /// Opens a file; and its length.
    pub fn open(path: &Path) -> Result<(Self, u64)> {
        let open = File::open(path).and_then(|f| f.metadata().map(|m| (f, m.len())));
        let (file, length) = open.map_err(|e| Error::io(path, e))?;
        Ok((Self { file, sum: md5::Context::new() }, length))
    }

    /// The MD5 of the whole file, in hexadecimal.
    pub fn finish(mut self, path: &Path) -> Result<String> {
        let mut rest = vec![0; 1 << 16];
        while self.read(&mut rest).map_err(|e| Error::io(path, e))? > 0 {}
        Ok(format!("{:x}", self.sum.finalize()))
    }
}

/// A reader that says when too much comes out of it.
pub struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Bounded<R> {
    /// What is unpacked from `packed` bytes.
    pub fn new(inner: R, packed: u64) -> Self {
        Self { inner, left: allowed(packed) }
    }

    /// Bytes that may still come.
    pub fn left(&self) -> u64 {
        self.left
    }
}

/// How much may come out of `packed` bytes.
pub fn allowed(packed: u64) -> u64 {
    packed.saturating_mul(RATIO).saturating_add(MORE)
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => {
                let why = format!("it unpacks to more than {RATIO} times its length, as no images do");
                return Err(io::Error::new(ErrorKind::InvalidData, why));
            }
        }
        Ok(n)
    }
}

/// The decoder of a gzip file.
pub type Gz<R> = Bounded<MultiGzDecoder<BufReader<R>>>;

/// Unpacks gzip.
pub fn gz<R: Read>(from: R, packed: u64) -> Gz<R> {
    Bounded::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, from)), packed)
}

/// Unpacks zlib.
pub fn zlib<R: io::BufRead>(from: R, packed: u64) -> Bounded<ZlibDecoder<R>> {
    Bounded::new(ZlibDecoder::new(from), packed)
}

/// A file or what a gzip file holds.
pub enum Maybe<R> {
    Plain(Bounded<BufReader<R>>),
    Packed(Box<Gz<R>>),
}

impl<R: Read> Maybe<R> {
    /// Unpacks if `packed`; the file has `length` bytes.
    pub fn new(from: R, packed: bool, length: u64) -> Self {
        if packed {
            Self::Packed(Box::new(gz(from, length)))
        } else {
            Self::Plain(Bounded::new(BufReader::with_capacity(1 << 16, from), length))
        }
    }

    /// Bytes that may still come.
    pub fn left(&self) -> u64 {
        match self {
            Self::Plain(r) => r.left(),
            Self::Packed(r) => r.left(),
        }
    }

    /// The file itself.
    pub fn into_inner(self) -> R {
        match self {
            Self::Plain(r) => r.inner.into_inner(),
            Self::Packed(r) => r.inner.into_inner().into_inner(),
        }
    }
}

impl<R: Read> Read for Maybe<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(r) => r.read(out),
            Self::Packed(r) => r.read(out),
        }
    }
}

/// Whether a file begins as gzip does.
pub fn is_gz(path: &Path) -> bool {
    starts_with(path, &[0x1f, 0x8b])
}

/// Whether a file begins with these bytes.
pub fn starts_with(path: &Path, magic: &[u8]) -> bool {
    let mut start = vec![0; magic.len()];
    File::open(path).and_then(|mut f| f.read_exact(&mut start)).is_ok() && start == magic
}

/// A member of an archive being read.
pub type Member<'a> = &'a mut dyn Read;

/// Calls `each` with the base name, place and length of each file in a tar archive, in the archive's order.
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
        // Nothing is unpacked to a folder here, but such an archive is no honest one.
        if path.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
            return Err(here.damaged("the name leads out of the archive"));
        }
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            return Err(here.damaged("is neither a file nor a folder (a link, say)"));
        }
        let base = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let length = entry.size();
        each(&base, &here, length, &mut entry)?;
    }
    Ok(())
}

/// The length of a member of which at most `most` bytes can be there.
pub fn fits(place: &Place, length: u64, most: u64) -> Result<usize> {
    match usize::try_from(length) {
        Ok(n) if length <= most => Ok(n),
        _ => {
            let why = format!(
                "claims {length} bytes, more than {RATIO} times the archive's length; cut short or damaged"
            );
            Err(place.damaged(why))
        }
    }
}

/// All `length` bytes of a member, of which at most `most` can be there.
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
