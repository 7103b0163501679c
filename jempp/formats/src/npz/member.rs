//! The values of one array: checked against the header, converted, in C order.

use super::header::{Dtype, Header, Scalar};
use crate::error::{Error, Result};
use crate::unpack::{RATIO, Unpack};
use half::f16;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;

/// Where an array is, for messages.
pub(super) struct At {
    pub path: PathBuf,
    /// `None` in a file of a single array.
    pub member: Option<String>,
}

impl At {
    fn says(&self, why: &str) -> String {
        let path = self.path.display();
        match &self.member {
            Some(name) => format!("{path}: member `{name}`: {why}"),
            None => format!("{path}: {why}"),
        }
    }

    pub(super) fn damaged(&self, why: &str) -> Error {
        Error::Format(self.says(why))
    }

    pub(super) fn unfit(&self, why: &str) -> Error {
        Error::Data(self.says(why))
    }

    fn read_error(&self, e: std::io::Error) -> Error {
        match e.kind() {
            ErrorKind::UnexpectedEof
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::Other => self.damaged(&e.to_string()),
            _ => Error::io(&self.path, e),
        }
    }
}

/// An array, open at its first value.
pub(super) struct Member<'a> {
    pub at: At,
    pub entry: Box<dyn Read + 'a>,
    /// Bytes of its values.
    pub size: u64,
    pub header: Header,
    /// Bytes of the file.
    pub length: u64,
    pub unpack: Unpack,
}

impl Member<'_> {
    /// Shape and values in C order, if `convert` supports the type; else an error that `expected` was.
    pub(super) fn read<T: Copy>(
        mut self,
        expected: &str,
        mut convert: impl FnMut(Dtype) -> Option<fn(&[u8], bool) -> T>,
    ) -> Result<(Vec<usize>, Vec<T>)> {
        let Some((dtype, f)) = self.header.dtype.and_then(|d| convert(d).map(|f| (d, f))) else {
            return Err(self.at.unfit(&format!("its type is {}, but must be {expected}", self.header.descr)));
        };
        let count = self.count(dtype.bytes(), size_of::<T>())?;
        let values = read_values(&mut self.entry, count, dtype, f).map_err(|e| self.at.read_error(e))?;
        let Header { shape, fortran, .. } = self.header;
        let values = if fortran && shape.len() > 1 { to_c_order(&values, &shape) } else { values };
        Ok((shape, values))
    }

    /// Shape and values of an array of strings.
    pub(super) fn texts(mut self) -> Result<(Vec<usize>, Vec<String>)> {
        let Some(text) = self.header.text else {
            return Err(self.at.unfit(&format!("its type is {}, but must be strings", self.header.descr)));
        };
        if self.header.fortran && self.header.shape.len() > 1 {
            return Err(self.at.unfit("strings in Fortran order are not read"));
        }
        // A string takes more than its characters.
        let count = self.count(text.bytes(), text.bytes() + 2 * size_of::<String>())?;
        let mut bytes = vec![0; text.bytes()];
        let mut out = Vec::with_capacity(count);
        for _ in 0..count {
            self.entry.read_exact(&mut bytes).map_err(|e| self.at.read_error(e))?;
            out.push(text.decode(&bytes));
        }
        ends(&mut self.entry).map_err(|e| self.at.read_error(e))?;
        Ok((self.header.shape, out))
    }

    /// The number of values of `stored` bytes each, which will take `held` bytes each: checked against what there is and what
    /// may be taken.
    fn count(&self, stored: usize, held: usize) -> Result<usize> {
        let count = self.header.count().map_err(|why| self.at.damaged(&why))?;
        let (want, is) = (count as u128 * stored as u128, u128::from(self.size));
        if want != is {
            let shape = &self.header.shape;
            return Err(self.at.damaged(&format!("shape {shape:?} takes {want} bytes, but there are {is}")));
        }
        let room = (count as u64).saturating_mul(held as u64);
        let bounds = [(self.size, RATIO), (room, 2 * RATIO)];
        match bounds.into_iter().find(|(bytes, ratio)| *bytes > self.unpack.allowed(self.length, *ratio)) {
            Some((bytes, ratio)) => Err(self.at.unfit(&self.unpack.refusal(self.length, ratio, bytes))),
            None => Ok(count),
        }
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
    ends(from)?;
    Ok(values)
}

/// Checks that a member ends here, which also verifies its checksum.
fn ends(from: &mut impl Read) -> std::io::Result<()> {
    match from.read(&mut [0])? {
        0 => Ok(()),
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
pub(super) fn float(d: Dtype) -> Option<fn(&[u8], bool) -> f32> {
    match d.scalar {
        Scalar::F16 => Some(|b, big| f16::from_le_bytes(little(b, big)).to_f32()),
        Scalar::F32 => Some(|b, big| f32::from_le_bytes(little(b, big))),
        Scalar::F64 => Some(|b, big| f64::from_le_bytes(little(b, big)) as f32),
        _ => None,
    }
}

/// The conversion of type `d` to float64, if it is a floating-point type.
pub(super) fn float64(d: Dtype) -> Option<fn(&[u8], bool) -> f64> {
    match d.scalar {
        Scalar::F16 => Some(|b, big| f16::from_le_bytes(little(b, big)).to_f64()),
        Scalar::F32 => Some(|b, big| f64::from(f32::from_le_bytes(little(b, big)))),
        Scalar::F64 => Some(|b, big| f64::from_le_bytes(little(b, big))),
        _ => None,
    }
}

/// The conversion of type `d` to int64, if it is an integer type or of booleans; uint64 wraps.
pub(super) fn integer(d: Dtype) -> Option<fn(&[u8], bool) -> i64> {
    Some(match d.scalar {
        Scalar::Bool => |b, _| i64::from(b[0] != 0),
        Scalar::I8 => |b, _| i64::from(b[0] as i8),
        Scalar::U8 => |b, _| i64::from(b[0]),
        Scalar::I16 => |b, big| i64::from(i16::from_le_bytes(little(b, big))),
        Scalar::U16 => |b, big| i64::from(u16::from_le_bytes(little(b, big))),
        Scalar::I32 => |b, big| i64::from(i32::from_le_bytes(little(b, big))),
        Scalar::U32 => |b, big| i64::from(u32::from_le_bytes(little(b, big))),
        Scalar::I64 | Scalar::U64 => |b, big| i64::from_le_bytes(little(b, big)),
        Scalar::F16 | Scalar::F32 | Scalar::F64 => return None,
    })
}
