//! NumPy archives (`.npz`) and single arrays (`.npy`), read; archives are also written.
//!
//! Invariant: a file is untrusted. Sizes in headers are checked before anything is allocated for them, and memory is
//! bounded by the archive's length. Every message names the file and the member.

mod header;
mod images;
mod member;
mod write;

#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::unpack::Unpack;
use header::{Dtype, Header, Scalar, array_of, member_of};
use member::{At, Member, float, float64, integer};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use zip::ZipArchive;

pub use images::{Float, Images, images, read_images};
pub use write::{Array, write};

/// First bytes of a single array.
const NPY: &[u8] = b"\x93NUMPY";
/// The name of the only array of a `.npy` file: that which NumPy gives an array without a name in an archive.
pub const SINGLE: &str = "arr_0";

/// What the values of an array are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// True or false.
    Bool,
    /// Bytes: uint8.
    Byte,
    /// Whole numbers of other widths.
    Integer,
    /// Floating-point numbers.
    Float,
    /// Strings.
    Text,
    /// Something that cannot be read: records, objects, complex numbers.
    Other,
}

/// Type and shape of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What its values are.
    pub element: Element,
    /// NumPy's name of their type.
    pub descr: String,
    /// The extents of its axes.
    pub shape: Vec<usize>,
}

/// What can be read and sought in.
pub trait Source: Read + Seek {}
impl<T: Read + Seek> Source for T {}

/// An open archive, or a single array.
pub struct Npz<R: Read + Seek = BufReader<File>> {
    path: PathBuf,
    file: Content<R>,
    /// Length of the file in bytes.
    length: u64,
    unpack: Unpack,
}

enum Content<R> {
    Archive(ZipArchive<R>),
    Single(R),
}

impl Npz {
    /// Opens the archive or array at `path`.
    ///
    /// # Errors
    /// [`Error::Data`] when there is no such file; [`Error::Io`] when it cannot be read, [`Error::Format`] when it is neither.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, Unpack::default())
    }

    /// Opens the archive or array at `path`, which may unpack to what `unpack` says.
    ///
    /// # Errors
    /// Those of [`Npz::open`].
    pub fn open_with(path: &Path, unpack: Unpack) -> Result<Self> {
        let file = File::open(path).and_then(|f| f.metadata().map(|m| (f, m.len())));
        let (file, length) = file.map_err(|e| crate::files::missing_or(path, e))?;
        Self::of(path, BufReader::new(file), length, unpack)
    }
}

impl<R: Read + Seek> Npz<R> {
    /// Opens the archive or array of `length` bytes in `from`. Error messages name it `path`.
    ///
    /// # Errors
    /// [`Error::Format`] when it is neither.
    pub fn of(path: &Path, mut from: R, length: u64, unpack: Unpack) -> Result<Self> {
        let fail = |e| Error::io(path, e);
        let mut start = [0; 64];
        let n = from.read(&mut start).map_err(fail)?;
        from.seek(SeekFrom::Start(0)).map_err(fail)?;
        let path = path.to_path_buf();
        if start[..n].starts_with(NPY) {
            return Ok(Self { path, file: Content::Single(from), length, unpack });
        }
        let archive = ZipArchive::new(from).map_err(|e| {
            let path = path.display();
            match crate::kind::of(&start[..n]) {
                crate::kind::Kind::Zip | crate::kind::Kind::Unknown => {
                    Error::Format(format!("{path}: not an .npz archive: {e}"))
                }
                other => Error::Format(format!("{path}: not an .npz archive, but {}", other.with_article())),
            }
        })?;
        Ok(Self { path, file: Content::Archive(archive), length, unpack })
    }

    /// Names of the arrays, sorted.
    pub fn names(&self) -> Vec<String> {
        let Content::Archive(archive) = &self.file else { return vec![SINGLE.to_owned()] };
        let members = archive.file_names().filter_map(|name| name.ok());
        let mut names: Vec<String> = members.filter_map(|m| array_of(&m).map(str::to_string)).collect();
        names.sort();
        names
    }

    /// Whether there is an array `name`.
    pub fn has(&self, name: &str) -> bool {
        match &self.file {
            Content::Single(_) => name == SINGLE,
            Content::Archive(a) => {
                a.file_names().any(|member| member.is_ok_and(|m| array_of(&m) == Some(name)))
            }
        }
    }

    /// Type and shape of an array.
    ///
    /// # Errors
    /// [`Error::Data`] when there is no such array; [`Error::Format`] when it is damaged.
    pub fn describe(&mut self, name: &str) -> Result<Description> {
        let header = self.member(name)?.header;
        let element = match header.dtype.map(|d| d.scalar) {
            Some(Scalar::Bool) => Element::Bool,
            Some(Scalar::U8) => Element::Byte,
            Some(Scalar::F16 | Scalar::F32 | Scalar::F64) => Element::Float,
            Some(_) => Element::Integer,
            None if header.text.is_some() => Element::Text,
            None => Element::Other,
        };
        Ok(Description { element, descr: header.descr, shape: header.shape })
    }

    /// Shape and values, last index fastest, of an array of strings.
    ///
    /// # Errors
    /// [`Error::Data`] when there is no such array, or its values are no strings; [`Error::Format`] when it is damaged.
    pub fn texts(&mut self, name: &str) -> Result<(Vec<usize>, Vec<String>)> {
        self.member(name)?.texts()
    }

    /// Shape and values, last index fastest, of a float32 or float64 array; the latter is rounded to float32.
    ///
    /// # Errors
    /// [`Error::Data`] when there is no such array or its type differs; [`Error::Format`] when it is damaged.
    pub fn f32(&mut self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        self.read(name, "float32 or float64", float)
    }

    /// Shape and values, last index fastest, of a float32 or float64 array, as float64.
    ///
    /// # Errors
    /// Those of [`Npz::f32`].
    pub fn f64(&mut self, name: &str) -> Result<(Vec<usize>, Vec<f64>)> {
        self.read(name, "float32 or float64", float64)
    }

    /// Shape and values, last index fastest, of an integer array of any width.
    ///
    /// # Errors
    /// [`Error::Data`] when there is no such array, its type differs or a value is above 2⁶³ − 1; [`Error::Format`]
    /// when it is damaged.
    pub fn i64(&mut self, name: &str) -> Result<(Vec<usize>, Vec<i64>)> {
        let mut unsigned = false;
        let (shape, values) = self.read(name, "integers", |d| {
            unsigned = d.scalar == Scalar::U64;
            integer(d)
        })?;
        // The conversion wraps.
        if unsigned && values.iter().any(|v| *v < 0) {
            return Err(self.wrong(name, "a value is above 2^63 - 1".to_string()));
        }
        Ok((shape, values))
    }

    /// Shape and values, last index fastest, of a uint8 array.
    ///
    /// # Errors
    /// [`Error::Data`] when there is no such array or its type differs; [`Error::Format`] when it is damaged.
    pub fn u8(&mut self, name: &str) -> Result<(Vec<usize>, Vec<u8>)> {
        self.read(name, "uint8", |d| match d.scalar {
            Scalar::U8 => Some(|b, _| b[0]),
            _ => None,
        })
    }

    /// Shape and values in C order of an array whose type `convert` supports.
    fn read<T: Copy>(
        &mut self,
        name: &str,
        expected: &str,
        convert: impl FnMut(Dtype) -> Option<fn(&[u8], bool) -> T>,
    ) -> Result<(Vec<usize>, Vec<T>)> {
        self.member(name)?.read(expected, convert)
    }

    /// Opens an array up to its first value.
    fn member(&mut self, name: &str) -> Result<Member<'_>> {
        if !self.has(name) {
            let there = self.names().iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
            let there = if there.is_empty() { "nothing".to_string() } else { there };
            let path = self.path.display();
            return Err(Error::Data(format!("{path}: no member `{name}`; it contains {there}")));
        }
        let mut at = At { path: self.path.clone(), member: Some(name.to_owned()) };
        let (mut entry, size): (Box<dyn Read + '_>, u64) = match &mut self.file {
            Content::Archive(archive) => {
                let entry = archive.by_name(&member_of(name)).map_err(|e| at.damaged(&e.to_string()))?;
                let size = entry.size();
                (Box::new(entry), size)
            }
            Content::Single(file) => {
                at.member = None;
                file.seek(SeekFrom::Start(0)).map_err(|e| Error::io(&self.path, e))?;
                (Box::new(file), self.length)
            }
        };
        let header = Header::read(&mut entry).map_err(|why| at.damaged(&why))?;
        let size = size.saturating_sub(header.length);
        Ok(Member { at, entry, size, header, length: self.length, unpack: self.unpack })
    }

    fn wrong(&self, name: &str, why: String) -> Error {
        let member = matches!(self.file, Content::Archive(_)).then(|| name.to_owned());
        At { path: self.path.clone(), member }.unfit(&why)
    }
}
