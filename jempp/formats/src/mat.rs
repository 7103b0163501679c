//! MATLAB files of level 5 (`.mat`, `-v6` and `-v7`): the numeric arrays in them.
//!
//! Source: MathWorks, "MAT-File Format". Elements are a type, a length and data, padded to 8 bytes; small ones pack
//! all that into 8 bytes. An array is an element of elements: flags, dimensions, name, values; it may be packed by zlib
//! as a whole. Invariant: a length is believed only as far as the file can bear it out.

use crate::place::Place;
use crate::stream::{self, Bounded};
use crate::{Error, Result};
use std::io::{BufRead, Read};

const UINT32: u32 = 6;
const INT32: u32 = 5;
const INT8: u32 = 1;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
/// Most dimensions of an array, and longest name, that are of interest here.
const MOST_DIMS: u64 = 8;
const LONGEST_NAME: u64 = 63;

/// An array of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// What it is called.
    pub name: String,
    /// Its dimensions; the first index is the fastest.
    pub shape: Vec<usize>,
    /// The type of its values, as the file numbers them: 2 is a byte.
    pub kind: u32,
    /// Whether the most significant byte of a value comes first.
    pub big: bool,
    /// Its values.
    pub bytes: Vec<u8>,
}

impl Array {
    /// Its values, each if it is a whole number.
    pub fn integers(&self) -> impl ExactSizeIterator<Item = Option<i64>> + '_ {
        let width = width(self.kind).map_or(1, |(w, _)| w);
        self.bytes.chunks_exact(width).map(|b| integer(self.kind, self.big, b))
    }
}

/// Calls `each` with each real, full array of numbers, of those in a file of `length` bytes, that `wanted` has by name.
pub fn arrays(
    place: &Place,
    from: impl BufRead,
    length: u64,
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
                let mut inner = stream::zlib(&mut part, tag.length);
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

/// Says in a message where the element begins.
fn at(e: Error, start: u64) -> Error {
    match e {
        Error::Format(why) => Error::Format(format!("{why} (in the element at byte {start})")),
        Error::Data(why) => Error::Data(format!("{why} (in the element at byte {start})")),
        e => e,
    }
}

/// Reads the header; whether the file is big-endian.
fn header(place: &Place, from: &mut impl Read) -> Result<bool> {
    let mut head = [0; 128];
    from.read_exact(&mut head).map_err(|e| place.read_error(e))?;
    if head.starts_with(b"MATLAB 7.3") || head.starts_with(b"\x89HDF") {
        return Err(place.unfit("is a MATLAB 7.3 file, which is HDF5; save it with -v7"));
    }
    let big = match &head[126..] {
        b"IM" => false,
        b"MI" => true,
        _ => return Err(place.damaged("is no MATLAB file of level 5")),
    };
    let version = if big { [head[124], head[125]] } else { [head[125], head[124]] };
    if version != [1, 0] {
        return Err(place.damaged(format!("is a MATLAB file of version {version:?}; only 1.0 is known")));
    }
    Ok(big)
}

/// The array that is packed in an element.
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
        return Err(place.damaged(format!("a packed array claims {} bytes", tag.length)));
    }
    let array = matrix(place, &mut inner.take(tag.length), big, tag.length, wanted)?;
    // To the end, where the checksum is.
    if array.is_some() {
        skip(place, inner)?;
    }
    Ok(array)
}

/// The array in `length` bytes, if it is wanted.
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
        return Err(place.unfit(format!("`{name}` is no full array of real numbers (class {class})")));
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

/// An element of a given type and at most `most` bytes, with its padding.
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

/// What an element begins with.
struct Tag {
    kind: u32,
    length: u64,
    /// The data of a small element.
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

    /// The data, of a length that has been judged already.
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

/// Bytes in a value of a type, and whether it is signed (`None`: a float).
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

/// Reads to the end.
fn skip(place: &Place, from: &mut impl Read) -> Result<()> {
    std::io::copy(from, &mut std::io::sink()).map(|_| ()).map_err(|e| place.read_error(e))
}

/// Counts what has been read.
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
