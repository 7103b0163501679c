//! NumPy archives (`.npz`), read and written.
//!
//! Invariant: a file is untrusted. Sizes in headers are checked before anything is allocated for them, and memory is
//! bounded by the archive's length. Every message names the file and the member.

mod header;
mod write;

#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::pixels::value;
use header::{Dtype, Header, Scalar, array_of, member_of};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek};
use std::path::{Path, PathBuf};
use zip::ZipArchive;

pub use write::{Array, write};

/// A member may unpack to at most `RATIO` times the archive's length plus `MORE` bytes.
const RATIO: u64 = 16;
const MORE: u64 = 1 << 16;
/// Tolerance for values that rounding has moved out of [−1, 1].
const SLACK: f32 = 1e-3;

/// Images with optional labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// N×H×W×C values in [−1, 1].
    pub values: Vec<f32>,
    /// Height, width and channels.
    pub size: [usize; 3],
    /// One label per image, as in the file.
    pub labels: Option<Vec<i64>>,
}

impl Images {
    /// Number of images.
    pub fn count(&self) -> usize {
        self.values.len() / self.size.iter().product::<usize>().max(1)
    }
}

/// Reads the members `images` and, if present, `labels` of the archive at `path`.
///
/// `images` is N×H×W×C: float32 or float64 in [−1, 1], which is returned unchanged, or uint8, which becomes (u/255 −
/// ½)/½.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] when the file is not an archive or damaged; [`Error::Data`] when a member is
/// missing or has the wrong type or shape, or a value is NaN or more than 10⁻³ outside [−1, 1].
pub fn read_images(path: &Path) -> Result<Images> {
    images(Npz::open(path)?)
}

/// Reads the members `images` and, if present, `labels` of an open archive, as [`read_images`] does.
///
/// # Errors
/// Those of [`read_images`].
pub fn images<R: Read + Seek>(mut npz: Npz<R>) -> Result<Images> {
    let (shape, values) = npz.read("images", "float32, float64 or uint8", |d| match d.scalar {
        Scalar::U8 => Some(|b, _| value(b[0])),
        _ => float(d),
    })?;
    let &[n, h, w, c] = shape.as_slice() else {
        return Err(npz.wrong("images", format!("its shape is {shape:?}, but must be N×H×W×C")));
    };
    if values.is_empty() {
        return Err(npz.wrong("images", format!("its shape {shape:?} contains no image")));
    }
    if let Some(i) = values.iter().position(|v| v.is_nan() || v.abs() > 1.0 + SLACK) {
        let at = [i / (h * w * c), i / (w * c) % h, i / c % w, i % c];
        let why =
            format!("the value at {at:?} is {}; floats must lie in [-1, 1]; bytes must be uint8", values[i]);
        return Err(npz.wrong("images", why));
    }
    let labels = if npz.has("labels") { Some(npz.i64("labels")?) } else { None };
    let labels = match labels {
        Some((s, _)) if s != [n] => {
            return Err(npz.wrong("labels", format!("its shape is {s:?}, but `images` has {n} images")));
        }
        labels => labels.map(|(_, l)| l),
    };
    Ok(Images { values, size: [h, w, c], labels })
}

/// An open archive.
pub struct Npz<R: Read + Seek = BufReader<File>> {
    path: PathBuf,
    archive: ZipArchive<R>,
    /// Length of the archive in bytes.
    length: u64,
}

impl Npz {
    /// Opens the archive at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Format`] when it is not an archive.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).and_then(|f| f.metadata().map(|m| (f, m.len())));
        let (file, length) = file.map_err(|e| Error::io(path, e))?;
        Self::of(path, BufReader::new(file), length)
    }
}

impl<R: Read + Seek> Npz<R> {
    /// Opens the archive of `length` bytes in `from`. Error messages name it `path`.
    ///
    /// # Errors
    /// [`Error::Format`] when it is not an archive.
    pub fn of(path: &Path, from: R, length: u64) -> Result<Self> {
        let archive = ZipArchive::new(from)
            .map_err(|e| Error::Format(format!("{}: not an .npz archive: {e}", path.display())))?;
        Ok(Self { path: path.to_path_buf(), archive, length })
    }

    /// Names of the arrays, sorted.
    pub fn names(&self) -> Vec<String> {
        let members = self.archive.file_names().filter_map(|name| name.ok());
        let mut names: Vec<String> = members.filter_map(|m| array_of(&m).map(str::to_string)).collect();
        names.sort();
        names
    }

    /// Whether there is an array `name`.
    pub fn has(&self, name: &str) -> bool {
        self.archive.file_names().any(|member| member.is_ok_and(|m| array_of(&m) == Some(name)))
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
        self.read(name, "float32 or float64", |d| match d.scalar {
            Scalar::F32 => Some(|b, big| f64::from(f32::from_le_bytes(little(b, big)))),
            Scalar::F64 => Some(|b, big| f64::from_le_bytes(little(b, big))),
            _ => None,
        })
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
        mut convert: impl FnMut(Dtype) -> Option<fn(&[u8], bool) -> T>,
    ) -> Result<(Vec<usize>, Vec<T>)> {
        if !self.has(name) {
            let there = self.names().iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
            let there = if there.is_empty() { "nothing".to_string() } else { there };
            let path = self.path.display();
            return Err(Error::Data(format!("{path}: no member `{name}`; it contains {there}")));
        }
        let path = self.path.clone();
        let context = |why: String| format!("{}: member `{name}`: {why}", path.display());
        let damaged = |why: String| Error::Format(context(why));
        let mut entry = self.archive.by_name(&member_of(name)).map_err(|e| damaged(e.to_string()))?;
        let size = entry.size();
        let header = Header::read(&mut entry).map_err(damaged)?;
        let Some(dtype) = header.dtype else {
            return Err(Error::Data(context(format!(
                "its type is {}, but must be {expected}",
                header.descr
            ))));
        };
        let Some(f) = convert(dtype) else {
            return Err(Error::Data(context(format!(
                "its type is {}, but must be {expected}",
                header.descr
            ))));
        };
        let count = header.count().map_err(damaged)?;
        let (want, is) =
            (count as u128 * dtype.bytes() as u128, u128::from(size.saturating_sub(header.length)));
        if want != is {
            let shape = &header.shape;
            return Err(damaged(format!("shape {shape:?} takes {want} bytes, but there are {is}")));
        }
        // Honest images and labels never compress this well, so neither memory nor time is spent on them.
        let times = |ratio| self.length.saturating_mul(ratio).saturating_add(MORE);
        let room = (count as u64).saturating_mul(size_of::<T>() as u64);
        if size > times(RATIO) || room > times(2 * RATIO) {
            return Err(damaged(format!(
                "unpacks to {size} bytes, more than {RATIO} times the archive's length"
            )));
        }
        let values = read_values(&mut entry, count, dtype, f).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::Other => damaged(e.to_string()),
            _ => Error::io(&path, e),
        })?;
        let values = if header.fortran && header.shape.len() > 1 {
            to_c_order(&values, &header.shape)
        } else {
            values
        };
        Ok((header.shape, values))
    }

    fn wrong(&self, name: &str, why: String) -> Error {
        Error::Data(format!("{}: member `{name}`: {why}", self.path.display()))
    }
}

/// Reads `count` values and checks that the member ends there, which also verifies its checksum.
fn read_values<T>(
    from: &mut impl Read,
    count: usize,
    dtype: Dtype,
    f: fn(&[u8], bool) -> T,
) -> std::io::Result<Vec<T>> {
    let mut buffer = [0u8; 8 * 4096];
    let width = dtype.bytes();
    let mut values = Vec::with_capacity(count);
    while values.len() < count {
        let n = (count - values.len()).min(buffer.len() / width);
        let part = &mut buffer[..n * width];
        from.read_exact(part)?;
        values.extend(part.chunks_exact(width).map(|b| f(b, dtype.big)));
    }
    match from.read(&mut buffer[..1])? {
        0 => Ok(values),
        _ => Err(std::io::Error::new(ErrorKind::InvalidData, "unexpected bytes follow its data")),
    }
}

/// Reorders values from Fortran order to C order.
fn to_c_order<T: Copy>(values: &[T], shape: &[usize]) -> Vec<T> {
    let mut index = vec![0usize; shape.len()];
    let mut out = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        let at = index.iter().zip(shape).rev().fold(0, |at, (i, n)| at * n + i);
        out.push(values[at]);
        for (i, n) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *n {
                break;
            }
            *i = 0;
        }
    }
    out
}

/// The bytes of one value, in little-endian order.
fn little<const N: usize>(b: &[u8], big: bool) -> [u8; N] {
    let mut a = [0; N];
    a.copy_from_slice(&b[..N]);
    if big {
        a.reverse();
    }
    a
}

/// The conversion of type `d` to float32, if it is a floating-point type.
fn float(d: Dtype) -> Option<fn(&[u8], bool) -> f32> {
    match d.scalar {
        Scalar::F32 => Some(|b, big| f32::from_le_bytes(little(b, big))),
        Scalar::F64 => Some(|b, big| f64::from_le_bytes(little(b, big)) as f32),
        _ => None,
    }
}

/// The conversion of type `d` to int64, if it is an integer type; uint64 wraps.
fn integer(d: Dtype) -> Option<fn(&[u8], bool) -> i64> {
    Some(match d.scalar {
        Scalar::I8 => |b, _| i64::from(b[0] as i8),
        Scalar::U8 => |b, _| i64::from(b[0]),
        Scalar::I16 => |b, big| i64::from(i16::from_le_bytes(little(b, big))),
        Scalar::U16 => |b, big| i64::from(u16::from_le_bytes(little(b, big))),
        Scalar::I32 => |b, big| i64::from(i32::from_le_bytes(little(b, big))),
        Scalar::U32 => |b, big| i64::from(u32::from_le_bytes(little(b, big))),
        Scalar::I64 | Scalar::U64 => |b, big| i64::from_le_bytes(little(b, big)),
        Scalar::F32 | Scalar::F64 => return None,
    })
}
