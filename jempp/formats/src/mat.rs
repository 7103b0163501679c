//! Numeric arrays in MATLAB level 5 files (`.mat`, `-v6` and `-v7`).
//!
//! Source: MathWorks, "MAT-File Format". A data element is a type, a length and data, padded to 8 bytes; a small
//! element packs all of that into 8 bytes. An array is an element that contains elements: flags, dimensions, name,
//! values; it may be compressed by zlib as a whole. Invariant: a length is checked against the length of the file
//! before it is used.

use crate::error::{Error, Result};
use crate::place::Place;
use crate::stream::{self, Bounded};
use crate::unpack::Unpack;
use std::io::{BufRead, Read};

const UINT32: u32 = 6;
const INT32: u32 = 5;
const INT8: u32 = 1;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
/// Largest number of dimensions and longest name that are supported.
const MOST_DIMS: u64 = 8;
const LONGEST_NAME: u64 = 63;

/// A numeric array.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its name.
    pub name: String,
    /// The extent of each dimension; the first index varies fastest.
    pub shape: Vec<usize>,
    /// The MAT-file data type of the values; 2 is `miUINT8`.
    pub kind: u32,
    /// Whether values are big-endian.
    pub big: bool,
    /// The values.
    pub bytes: Vec<u8>,
}

impl Array {
    /// The values as integers; `None` for those that are not whole numbers.
    pub fn integers(&self) -> impl ExactSizeIterator<Item = Option<i64>> + '_ {
        let width = width(self.kind).map_or(1, |(w, _)| w);
        self.bytes.chunks_exact(width).map(|b| integer(self.kind, self.big, b))
    }
}

/// Calls `each` with every array in a file of `length` bytes whose name is in `wanted`; `unpack` bounds compressed arrays.
///
/// # Errors
/// [`Error::Data`] when such an array is sparse, complex or not numeric, or the file is HDF5 (MATLAB 7.3);
/// [`Error::Format`] when the file is damaged; [`Error::Io`]; those of `each`.
pub fn arrays(
    place: &Place,
    from: impl BufRead,
    (length, unpack): (u64, Unpack),
    wanted: &[&str],
    each: &mut dyn FnMut(Array) -> Result<()>,
) -> Result<()> {
    let mut from = Counted { inner: from, at: 0 };
    let big = header(place, &mut from)?;
    while from.at < length {
        let start = from.at;
        let here = |e: Error| at(e, start);
        let tag = Tag::read(place, &mut from, big)?;
        let left = length.saturating_sub(from.at);
        if tag.small.is_some() || tag.length > left {
            let why = format!("the element at byte {start} claims {} bytes, but {left} are left", tag.length);
            return Err(place.damaged(why));
        }
        let mut part = (&mut from).take(tag.length);
        match tag.kind {
            MATRIX => {
                if let Some(a) = matrix(place, &mut part, big, tag.length, wanted).map_err(here)? {
                    each(a)?;
                }
            }
            COMPRESSED => {
                let mut inner = stream::zlib(&mut part, tag.length, unpack);
                if let Some(a) = compressed(place, &mut inner, big, wanted).map_err(here)? {
                    each(a)?;
                }
            }
            _ => {}
        }
        skip(place, &mut part)?;
        if tag.kind != COMPRESSED {
            let pad = (8 - tag.length % 8) % 8;
            skip(place, &mut (&mut from).take(pad))?;
        }
    }
    Ok(())
}

/// Adds the offset of the element to an error.
fn at(e: Error, start: u64) -> Error {
    match e {
        Error::Format(why) => Error::Format(format!("{why} (in the element at byte {start})")),
        Error::Data(why) => Error::Data(format!("{why} (in the element at byte {start})")),
        e => e,
    }
}

/// Reads the header and returns whether the file is big-endian.
fn header(place: &Place, from: &mut impl Read) -> Result<bool> {
    let mut head = [0; 128];
    from.read_exact(&mut head).map_err(|e| place.read_error(e))?;
    if head.starts_with(b"MATLAB 7.3") || head.starts_with(b"\x89HDF") {
        return Err(place.unfit("is a MATLAB 7.3 file, which is HDF5; save it with -v7"));
    }
    let big = match &head[126..] {
        b"IM" => false,
        b"MI" => true,
        _ => return Err(place.damaged("is not a MATLAB level 5 file")),
    };
    let version = if big { [head[124], head[125]] } else { [head[125], head[124]] };
    if version != [1, 0] {
        return Err(place.damaged(format!("is a MATLAB file of version {version:?}; only 1.0 is supported")));
    }
    Ok(big)
}

/// Reads the array in a compressed element, if its name is in `wanted`.
fn compressed<R: BufRead>(
    place: &Place,
    inner: &mut Bounded<flate2::bufread::ZlibDecoder<R>>,
    big: bool,
    wanted: &[&str],
) -> Result<Option<Array>> {
    let most = inner.left();
    let tag = Tag::read(place, inner, big)?;
    if tag.kind != MATRIX {
        return Ok(None);
    }
    if tag.length > most {
        let why = format!(
            "a packed array claims {} bytes, more than the {most} that it may unpack to; it is damaged, or a larger \
             data.unpack_limit lets it in",
            tag.length
        );
        return Err(place.unfit(why));
    }
    let array = matrix(place, &mut inner.take(tag.length), big, tag.length, wanted)?;
    // Read to the end, where the checksum is.
    if array.is_some() {
        skip(place, inner)?;
    }
    Ok(array)
}

/// Reads the array in `length` bytes, if its name is in `wanted`.
fn matrix(
    place: &Place,
    from: &mut impl Read,
    big: bool,
    length: u64,
    wanted: &[&str],
) -> Result<Option<Array>> {
    if length == 0 {
        return Ok(None);
    }
    let flags = element(place, from, big, UINT32, 8, "flags")?;
    let flags = word(&flags[..4], big);
    let dims = element(place, from, big, INT32, 4 * MOST_DIMS, "dimensions")?;
    let name = element(place, from, big, INT8, LONGEST_NAME, "name")?;
    let name = String::from_utf8_lossy(&name).into_owned();
    if !wanted.contains(&name.as_str()) {
        return Ok(None);
    }
    let class = flags & 0xff;
    // Numbers of 1 to 8 bytes; bit 11 means complex.
    if !(6..=15).contains(&class) || flags & 0x800 != 0 {
        return Err(place.unfit(format!("`{name}` is not a full array of real numbers (class {class})")));
    }
    let shape: Vec<usize> = dims.chunks_exact(4).map(|d| word(d, big) as usize).collect();
    let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    let tag = Tag::read(place, from, big)?;
    let values = width(tag.kind).map(|(w, _)| w).zip(count).and_then(|(w, n)| n.checked_mul(w));
    if values.map(|v| v as u64) != Some(tag.length) || tag.length > length {
        let why = format!("`{name}` has shape {shape:?}, but {} bytes of type {}", tag.length, tag.kind);
        return Err(place.damaged(why));
    }
    let bytes = tag.data(place, from)?;
    Ok(Some(Array { name, shape, kind: tag.kind, big, bytes }))
}

/// Reads the data of an element of type `kind` and at most `most` bytes, and its padding.
fn element(
    place: &Place,
    from: &mut impl Read,
    big: bool,
    kind: u32,
    most: u64,
    what: &str,
) -> Result<Vec<u8>> {
    let tag = Tag::read(place, from, big)?;
    if tag.kind != kind || tag.length > most || (kind == UINT32 && tag.length != 8) {
        let why =
            format!("the {what} of an array are an element of type {} and {} bytes", tag.kind, tag.length);
        return Err(place.damaged(why));
    }
    let bytes = tag.data(place, from)?;
    if tag.small.is_none() {
        skip(place, &mut from.take((8 - tag.length % 8) % 8))?;
    }
    Ok(bytes)
}

/// The tag of an element.
struct Tag {
    kind: u32,
    length: u64,
    /// The data, for a small element.
    small: Option<[u8; 4]>,
}

impl Tag {
    fn read(place: &Place, from: &mut impl Read, big: bool) -> Result<Self> {
        let mut b = [0; 8];
        from.read_exact(&mut b).map_err(|e| place.read_error(e))?;
        let (first, second) = (word(&b[..4], big), word(&b[4..], big));
        if first >> 16 == 0 {
            return Ok(Self { kind: first, length: u64::from(second), small: None });
        }
        let length = u64::from(first >> 16);
        if length > 4 {
            return Err(place.damaged(format!("a small element claims {length} bytes")));
        }
        Ok(Self { kind: first & 0xffff, length, small: Some([b[4], b[5], b[6], b[7]]) })
    }

    /// Reads the data; the caller has checked the length.
    fn data(&self, place: &Place, from: &mut impl Read) -> Result<Vec<u8>> {
        if let Some(small) = self.small {
            return Ok(small[..self.length as usize].to_vec());
        }
        let room = usize::try_from(self.length).map_err(|e| place.damaged(e))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(room).map_err(|e| place.damaged(e))?;
        from.take(self.length).read_to_end(&mut bytes).map_err(|e| place.read_error(e))?;
        if bytes.len() == room { Ok(bytes) } else { Err(place.damaged("it is cut short")) }
    }
}

fn word(b: &[u8], big: bool) -> u32 {
    let fold = |v: u32, b: &u8| v << 8 | u32::from(*b);
    if big { b.iter().fold(0, fold) } else { b.iter().rev().fold(0, fold) }
}

/// Bytes per value of a data type, and whether it is signed (`None`: floating-point).
fn width(kind: u32) -> Option<(usize, Option<bool>)> {
    Some(match kind {
        1 => (1, Some(true)),
        2 => (1, Some(false)),
        3 => (2, Some(true)),
        4 => (2, Some(false)),
        5 => (4, Some(true)),
        6 => (4, Some(false)),
        7 => (4, None),
        9 => (8, None),
        12 => (8, Some(true)),
        13 => (8, Some(false)),
        _ => return None,
    })
}

fn integer(kind: u32, big: bool, b: &[u8]) -> Option<i64> {
    let (width, signed) = width(kind)?;
    let mut little = [0; 8];
    little.get_mut(..width)?.copy_from_slice(b);
    if big {
        little[..width].reverse();
    }
    let bits = u64::from_le_bytes(little);
    let whole = |x: f64| (x.fract() == 0.0 && x.abs() < 2f64.powi(53)).then_some(x as i64);
    match (signed, width) {
        (Some(false), _) => i64::try_from(bits).ok(),
        (Some(true), _) => {
            let shift = 64 - 8 * width as u32;
            Some((bits << shift) as i64 >> shift)
        }
        (None, 4) => whole(f64::from(f32::from_bits(bits as u32))),
        (None, _) => whole(f64::from_bits(bits)),
    }
}

/// Reads and discards everything up to the end.
fn skip(place: &Place, from: &mut impl Read) -> Result<()> {
    std::io::copy(from, &mut std::io::sink()).map(|_| ()).map_err(|e| place.read_error(e))
}

/// A reader that counts the bytes read.
struct Counted<R> {
    inner: R,
    at: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(out)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.inner.consume(n);
        self.at += n as u64;
    }
}
