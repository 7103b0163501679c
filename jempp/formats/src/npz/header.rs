//! The names and headers of `.npy` arrays: type, order and shape.
//!
//! Invariant: no allocation above 64 KiB, no recursion, no unchecked arithmetic, whatever the bytes are.
//!
//! Source: NumPy's `numpy.lib.format`, versions 1.0 to 3.0.

use std::io::Read;

/// Largest header text in bytes.
const LONGEST: usize = 64 * 1024;
/// NumPy's limit on dimensions.
const MOST_DIMS: usize = 64;

/// A numeric type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Bool,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F16,
    F32,
    F64,
}

impl Scalar {
    const ALL: [Self; 12] = [
        Self::Bool,
        Self::I8,
        Self::U8,
        Self::I16,
        Self::U16,
        Self::I32,
        Self::U32,
        Self::I64,
        Self::U64,
        Self::F16,
        Self::F32,
        Self::F64,
    ];

    /// NumPy's type code: kind and width in bytes.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bool => "b1",
            Self::I8 => "i1",
            Self::U8 => "u1",
            Self::I16 => "i2",
            Self::U16 => "u2",
            Self::I32 => "i4",
            Self::U32 => "u4",
            Self::I64 => "i8",
            Self::U64 => "u8",
            Self::F16 => "f2",
            Self::F32 => "f4",
            Self::F64 => "f8",
        }
    }
}

/// A numeric type and its byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dtype {
    pub scalar: Scalar,
    /// Whether values are big-endian.
    pub big: bool,
}

impl Dtype {
    /// Bytes per value.
    pub(super) fn bytes(self) -> usize {
        match self.scalar {
            Scalar::Bool | Scalar::I8 | Scalar::U8 => 1,
            Scalar::I16 | Scalar::U16 | Scalar::F16 => 2,
            Scalar::I32 | Scalar::U32 | Scalar::F32 => 4,
            Scalar::I64 | Scalar::U64 | Scalar::F64 => 8,
        }
    }

    /// Parses NumPy's type description; `None` if the type is not supported.
    fn parse(descr: &str) -> Option<Self> {
        let (order, name) = (descr.chars().next()?, descr.get(1..)?);
        let big = match order {
            '<' | '|' => false,
            '>' => true,
            '=' => cfg!(target_endian = "big"),
            _ => return None,
        };
        let scalar = Scalar::ALL.into_iter().find(|s| s.name() == name)?;
        Some(Self { scalar, big })
    }
}

/// Strings of a fixed length, padded with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// Characters of each.
    pub length: usize,
    /// Four bytes per character rather than one.
    pub wide: bool,
    /// Whether wide characters are big-endian.
    pub big: bool,
}

impl Text {
    /// Longest strings that are supported.
    const LONGEST: usize = 1 << 12;

    /// Bytes of each.
    pub(super) fn bytes(self) -> usize {
        self.length * if self.wide { 4 } else { 1 }
    }

    /// Parses NumPy's type description; `None` if it is not one of strings.
    fn parse(descr: &str) -> Option<Self> {
        let mut rest = descr.chars();
        let big = rest.next()? == '>';
        let wide = match rest.next()? {
            'U' => true,
            'S' | 'a' => false,
            _ => return None,
        };
        let length = rest.as_str().parse().ok().filter(|n| (1..=Self::LONGEST).contains(n))?;
        Some(Self { length, wide, big })
    }

    /// A string from its bytes.
    pub(super) fn decode(self, bytes: &[u8]) -> String {
        let text: String = if self.wide {
            let word = |b: &[u8; 4]| if self.big { u32::from_be_bytes(*b) } else { u32::from_le_bytes(*b) };
            bytes.as_chunks::<4>().0.iter().map(|b| char::from_u32(word(b)).unwrap_or('\u{fffd}')).collect()
        } else {
            String::from_utf8_lossy(bytes).into_owned()
        };
        text.trim_end_matches('\0').to_owned()
    }
}

/// The name of the archive member that holds an array.
pub(super) fn member_of(array: &str) -> String {
    format!("{array}.npy")
}

/// The name of the array in an archive member; `None` if the member is not an array.
pub(super) fn array_of(member: &str) -> Option<&str> {
    member.split('\0').next()?.strip_suffix(".npy")
}

/// A parsed header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The type description as written.
    pub descr: String,
    /// The type, if it is supported.
    pub dtype: Option<Dtype>,
    /// Of strings: the number of characters of each, whether they take four bytes (`U`) or one (`S`), and their order.
    pub text: Option<Text>,
    /// Whether the first index varies fastest (Fortran order).
    pub fortran: bool,
    pub shape: Vec<usize>,
    /// Length of the header in bytes, which is the offset of the data.
    pub length: u64,
}

impl Header {
    /// Reads up to the first byte of data.
    pub(super) fn read(from: &mut impl Read) -> Result<Self, String> {
        let mut exact = |n: usize| {
            let mut bytes = vec![0; n];
            from.read_exact(&mut bytes).map(|()| bytes).map_err(|e| format!("its header cannot be read: {e}"))
        };
        let start = exact(8)?;
        if start[..6] != *b"\x93NUMPY" {
            return Err("not a NumPy array".to_string());
        }
        let width = match start[6] {
            1 => 2,
            2 | 3 => 4,
            v => return Err(format!("version {v} of the format is unknown")),
        };
        let mut size = [0; 4];
        size[..width].copy_from_slice(&exact(width)?);
        let size = u32::from_le_bytes(size) as usize;
        if size > LONGEST {
            return Err(format!("its header of {size} bytes is longer than {LONGEST}"));
        }
        let text = String::from_utf8(exact(size)?).map_err(|_| "its header is not text".to_string())?;
        parse(&text, (8 + width + size) as u64).ok_or_else(|| {
            let shown: String = text.trim_end().chars().take(120).collect();
            format!("its header cannot be parsed: {shown}")
        })
    }

    /// Number of values.
    pub(super) fn count(&self) -> Result<usize, String> {
        let count = self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        count.ok_or_else(|| format!("shape {:?} is too large", self.shape))
    }
}

/// Parses `text`, a Python dictionary of a string or list, a boolean and a tuple of integers.
fn parse(text: &str, length: u64) -> Option<Header> {
    let mut rest = Rest(text);
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    rest.eat('{')?;
    while rest.eat('}').is_none() {
        let key = rest.string()?;
        rest.eat(':')?;
        match key {
            "descr" => descr = Some(rest.descr()?),
            "fortran_order" => fortran = Some(rest.boolean()?),
            "shape" => shape = Some(rest.tuple()?),
            _ => return None,
        }
        if rest.eat(',').is_none() {
            rest.eat('}')?;
            break;
        }
    }
    if !rest.0.trim().is_empty() {
        return None;
    }
    let descr = descr?;
    let text = Text::parse(&descr);
    Some(Header { dtype: Dtype::parse(&descr), text, descr, fortran: fortran?, shape: shape?, length })
}

/// The part of a header that has not been parsed.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn eat(&mut self, c: char) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(c)?;
        Some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        let quote = self.0.trim_start().chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        self.eat(quote)?;
        let (inside, after) = self.0.split_once(quote)?;
        self.0 = after;
        Some(inside)
    }

    /// A type description: a string, or the list of fields of a structured type, which is skipped.
    fn descr(&mut self) -> Option<String> {
        if let Some(s) = self.string() {
            return Some(s.to_string());
        }
        self.eat('[')?;
        let mut depth = 1usize;
        let end = self.0.char_indices().find(|(_, c)| {
            match c {
                '[' => depth += 1,
                ']' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        self.0 = self.0.get(end?.0 + 1..)?;
        Some("a record".to_string())
    }

    fn boolean(&mut self) -> Option<bool> {
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(after) = self.0.trim_start().strip_prefix(word) {
                self.0 = after;
                return Some(value);
            }
        }
        None
    }

    fn tuple(&mut self) -> Option<Vec<usize>> {
        let mut out = Vec::new();
        self.eat('(')?;
        while self.eat(')').is_none() {
            let text = self.0.trim_start();
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            out.push(text[..end].parse().ok()?);
            // Python 2 wrote long integers with an L.
            self.0 = text[end..].strip_prefix('L').unwrap_or(&text[end..]);
            if out.len() > MOST_DIMS {
                return None;
            }
            if self.eat(',').is_none() {
                self.eat(')')?;
                break;
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_as_numpy_writes_them() {
        let p = |t: &str| parse(t, 0);
        let h = p("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 8, 8, 1), }      \n").unwrap();
        assert_eq!(h.dtype, Some(Dtype { scalar: Scalar::F32, big: false }));
        assert_eq!((h.fortran, h.shape.as_slice()), (false, &[2usize, 8, 8, 1][..]));
        let h = p("{'descr': '>u8', 'fortran_order': True, 'shape': (3,), }").unwrap();
        assert_eq!((h.dtype, h.fortran), (Some(Dtype { scalar: Scalar::U64, big: true }), true));
        assert_eq!(p("{'shape': (), 'descr': '|u1', 'fortran_order': False}").unwrap().count(), Ok(1));
        assert_eq!(p("{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 4L)}").unwrap().shape, [3, 4]);
        assert_eq!(p("{'descr': '|O', 'fortran_order': False, 'shape': (3,)}").unwrap().dtype, None);
        let record =
            "{'descr': [('a', '<f4'), ('b', [('c', '<i2')])], 'fortran_order': False, 'shape': (3,)}";
        assert_eq!(p(record).unwrap().descr, "a record");
    }

    #[test]
    fn malformed_headers_are_refused() {
        for t in [
            "",
            "{",
            "{}",
            "{'descr': '<f4', 'fortran_order': False}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}",
            "{'descr': [[[[, 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<f4' 'fortran_order': False, 'shape': (1,)}",
        ] {
            assert_eq!(parse(t, 0), None, "{t}");
        }
        let big = parse("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4)}", 0);
        assert!(big.unwrap().count().unwrap_err().contains("too large"));
    }

    #[test]
    fn long_or_foreign_headers_are_refused_unread() {
        let read = |b: &[u8]| Header::read(&mut { b }).unwrap_err();
        assert!(read(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").contains("4294967295 bytes is longer"));
        assert!(read(b"\x93NUMPY\x09\x00\x00\x00").contains("version 9"));
        assert!(read(b"PK\x03\x04....").contains("not a NumPy array"));
        assert!(read(b"\x93NUMPY\x01\x00\x10\x00abc").contains("cannot be read"));
        let nested = [&b"\x93NUMPY\x01\x00\x10\x27{'descr': "[..], &[b'['; 9990]].concat();
        assert!(read(&nested).contains("cannot be parsed"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[{}()\\[\\]',:a-zTF<>|0-9L é]{0,60}") {
            let _ = parse(&text, 0);
            let _ = parse(&format!("{{'descr': {text}"), 0);
            let _ = parse(&format!("{{'shape': ({text}"), 0);
        }
    }
}
