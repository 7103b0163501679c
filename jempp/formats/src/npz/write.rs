//! Writing archives.

use crate::error::{Error, Result};
use crate::files::{Sink, write_atomic};
use npyz::WriterBuilder;
use npyz::npz::NpzWriter;
use std::io;
use std::path::Path;

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
    fn agrees(&self) -> bool {
        let (shape, n) = match self {
            Self::F32(shape, values) => (shape, values.len()),
            Self::F64(shape, values) => (shape, values.len()),
            Self::I64(shape, values) => (shape, values.len()),
        };
        shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)) == Some(n)
    }
}

/// Writes named arrays as a compressed archive, whole or not at all; an existing file is replaced.
///
/// # Errors
/// [`Error::Data`] when a shape does not go with the number of values or a name comes twice; [`Error::Io`], also for
/// an array above 4 GiB.
pub fn write(path: &Path, arrays: &[(&str, Array<'_>)]) -> Result<()> {
    let wrong =
        |name: &str, why: &str| Err(Error::Data(format!("{}: member `{name}`: {why}", path.display())));
    for (i, (name, array)) in arrays.iter().enumerate() {
        if !array.agrees() {
            return wrong(name, "its shape does not go with the number of its values");
        }
        if arrays[..i].iter().any(|(n, _)| n == name) {
            return wrong(name, "the name comes twice");
        }
    }
    write_atomic(path, |sink| fill(sink, arrays))
}

fn fill(sink: &mut dyn Sink, arrays: &[(&str, Array<'_>)]) -> io::Result<()> {
    let mut npz = NpzWriter::new(sink);
    for (name, array) in arrays {
        match array {
            Array::F32(shape, values) => member(&mut npz, name, shape, values)?,
            Array::F64(shape, values) => member(&mut npz, name, shape, values)?,
            Array::I64(shape, values) => member(&mut npz, name, shape, values)?,
        }
    }
    npz.zip_writer().finish().map_err(io::Error::other)?;
    Ok(())
}

fn member<T: npyz::AutoSerialize + Copy>(
    npz: &mut NpzWriter<&mut dyn Sink>,
    name: &str,
    shape: &[usize],
    values: &[T],
) -> io::Result<()> {
    let shape: Vec<u64> = shape.iter().map(|d| *d as u64).collect();
    let mut writer = npz.array(name, Default::default())?.default_dtype().shape(&shape).begin_nd()?;
    writer.extend(values.iter().copied())?;
    writer.finish()
}
