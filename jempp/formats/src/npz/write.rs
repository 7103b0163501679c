//! Writing of archives.

use super::header::{Scalar, member_of};
use crate::error::{Error, Result};
use crate::files::{Sink, write_atomic};
use std::io::{self, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Values per write to the compressor.
const CHUNK: usize = 4096;
/// The data of a member are aligned to this many bytes.
const ALIGNMENT: usize = 64;
/// NumPy's magic bytes and version 1.0.
const START: &[u8] = b"\x93NUMPY\x01\x00";

/// An array to write: its shape and its values, last index fastest.
#[derive(Clone, Copy, Debug)]
pub enum Array<'a> {
    /// float32.
    F32(&'a [usize], &'a [f32]),
    /// float64.
    F64(&'a [usize], &'a [f64]),
    /// int64.
    I64(&'a [usize], &'a [i64]),
}

impl Array<'_> {
    fn is_consistent(&self) -> bool {
        let (shape, n) = match self {
            Self::F32(shape, values) => (shape, values.len()),
            Self::F64(shape, values) => (shape, values.len()),
            Self::I64(shape, values) => (shape, values.len()),
        };
        shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)) == Some(n)
    }
}

/// Writes named arrays to a compressed archive, atomically; an existing file is replaced. Equal arrays give equal
/// bytes.
///
/// # Errors
/// [`Error::Data`] when a shape does not match the number of values or a name occurs twice; [`Error::Io`], also for an
/// array of more than 4 GiB.
pub fn write(path: &Path, arrays: &[(&str, Array<'_>)]) -> Result<()> {
    let wrong =
        |name: &str, why: &str| Err(Error::Data(format!("{}: member `{name}`: {why}", path.display())));
    for (i, (name, array)) in arrays.iter().enumerate() {
        if !array.is_consistent() {
            return wrong(name, "its shape does not match the number of its values");
        }
        if arrays[..i].iter().any(|(n, _)| n == name) {
            return wrong(name, "the name occurs twice");
        }
    }
    write_atomic(path, |sink| fill(sink, arrays))
}

fn fill(sink: &mut dyn Sink, arrays: &[(&str, Array<'_>)]) -> io::Result<()> {
    let mut zip = ZipWriter::new(sink);
    // A fixed modification time, so that equal arrays give equal bytes.
    let options = SimpleFileOptions::DEFAULT.compression_method(CompressionMethod::Deflated);
    for (name, array) in arrays {
        zip.start_file(member_of(name), options).map_err(io::Error::other)?;
        match array {
            Array::F32(shape, values) => {
                zip.write_all(&header(Scalar::F32, shape)?)?;
                body(&mut zip, values, |v| v.to_le_bytes())?;
            }
            Array::F64(shape, values) => {
                zip.write_all(&header(Scalar::F64, shape)?)?;
                body(&mut zip, values, |v| v.to_le_bytes())?;
            }
            Array::I64(shape, values) => {
                zip.write_all(&header(Scalar::I64, shape)?)?;
                body(&mut zip, values, |v| v.to_le_bytes())?;
            }
        }
    }
    zip.finish().map_err(io::Error::other)?;
    Ok(())
}

/// The header of an `.npy` array in C order with its magic bytes (version 1.0).
fn header(scalar: Scalar, shape: &[usize]) -> io::Result<Vec<u8>> {
    const BEFORE: usize = START.len() + size_of::<u16>();
    let dims: String = shape.iter().map(|d| format!("{d}, ")).collect();
    let mut text = format!("{{'descr': '<{}', 'fortran_order': False, 'shape': ({dims}), }}", scalar.name())
        .into_bytes();
    let whole = (BEFORE + text.len() + 1).next_multiple_of(ALIGNMENT);
    text.resize(whole - BEFORE - 1, b' ');
    text.push(b'\n');
    let length = u16::try_from(text.len()).map_err(io::Error::other)?;
    Ok([START, &length.to_le_bytes(), &text].concat())
}

fn body<T: Copy, const N: usize>(
    to: &mut impl Write,
    values: &[T],
    bytes: fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut chunk = Vec::with_capacity(CHUNK.min(values.len()) * N);
    for values in values.chunks(CHUNK) {
        chunk.clear();
        values.iter().for_each(|v| chunk.extend(bytes(*v)));
        to.write_all(&chunk)?;
    }
    Ok(())
}
