//! The safetensors format: the length of the header (8 bytes), a JSON header, then the values, little-endian, without
//! gaps.
//!
//! Invariants: equal containers give equal bytes. Reading allocates nothing for a size in the header before it has been
//! checked against the file's length, and no input makes it panic.
//!
//! The `safetensors` crate supplies the types only, because it writes metadata in the random order of a hash map and
//! silently accepts two tensors of the same name.

use super::tensor::{Container, Tensor, TensorData};
use crate::error::{Error, Result};
use crate::place::shown;
use safetensors::tensor::{Dtype, TensorInfo};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

/// Largest header in bytes, as in the `safetensors` crate.
const LONGEST: u64 = 100_000_000;
/// Bytes converted at a time; a multiple of every element size.
const CHUNK: usize = 64 * 1024;
/// Key of the metadata, reserved in the format.
const META: &str = "__metadata__";

fn dtype(data: &TensorData) -> Dtype {
    match data {
        TensorData::F32(_) => Dtype::F32,
        TensorData::I32(_) => Dtype::I32,
        TensorData::U8(_) => Dtype::U8,
        TensorData::I64(_) => Dtype::I64,
    }
}

/// A validated container with its header, ready to be written.
pub struct Plan<'a> {
    head: Vec<u8>,
    order: Vec<&'a Tensor>,
}

impl<'a> Plan<'a> {
    /// Checks names and shapes and builds the header.
    ///
    /// # Errors
    /// [`Error::Internal`] when a shape does not match its values, a name occurs twice or is reserved, or the header is
    /// too long.
    pub fn new(container: &'a Container) -> Result<Self> {
        let mut order: Vec<&Tensor> = container.tensors.iter().collect();
        // Widest types first keeps every tensor aligned; the crate does the same.
        order.sort_by(|a, b| dtype(&b.data).cmp(&dtype(&a.data)).then_with(|| a.name.cmp(&b.name)));
        let wrong = |t: &Tensor, why: &str| Err(Error::Internal(format!("tensor `{}` {why}", t.name)));
        let mut names = BTreeSet::from([META]);
        let mut entries = Vec::new();
        if !container.meta.is_empty() {
            entries.push(format!("{}:{}", json(META)?, json(&container.meta)?));
        }
        let mut offset = 0usize;
        for t in &order {
            if !names.insert(&t.name) {
                return wrong(t, "occurs twice or has a reserved name");
            }
            let dtype = dtype(&t.data);
            let Some(bytes) = bytes_of(dtype, &t.shape).filter(|b| *b == t.data.len() * dtype.bitsize() / 8)
            else {
                return wrong(t, &format!("has {} values, but its shape is {:?}", t.data.len(), t.shape));
            };
            let info = TensorInfo { dtype, shape: t.shape.clone(), data_offsets: (offset, offset + bytes) };
            entries.push(format!("{}:{}", json(&t.name)?, json(&info)?));
            offset += bytes;
        }
        let mut head = format!("{{{}}}", entries.join(",")).into_bytes();
        head.resize(head.len().next_multiple_of(8), b' ');
        if head.len() as u64 > LONGEST {
            return Err(Error::Internal(format!("a header of {} bytes is too long", head.len())));
        }
        Ok(Self { head, order })
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        out.write_all(&(self.head.len() as u64).to_le_bytes())?;
        out.write_all(&self.head)?;
        for t in &self.order {
            match &t.data {
                TensorData::F32(v) => put(out, v, |v| v.to_le_bytes())?,
                TensorData::I32(v) => put(out, v, |v| v.to_le_bytes())?,
                TensorData::I64(v) => put(out, v, |v| v.to_le_bytes())?,
                TensorData::U8(v) => out.write_all(v)?,
            }
        }
        Ok(())
    }
}

fn json(value: &(impl serde::Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::Internal(e.to_string()))
}

fn put<T: Copy, const N: usize>(
    out: &mut (impl Write + ?Sized),
    values: &[T],
    convert: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK);
    for chunk in values.chunks(CHUNK / N) {
        buffer.clear();
        buffer.extend(chunk.iter().flat_map(|v| convert(*v)));
        out.write_all(&buffer)?;
    }
    Ok(())
}

/// Size of a tensor in bytes; `None` on overflow.
fn bytes_of(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    let bits = shape.iter().try_fold(dtype.bitsize(), |n, d| n.checked_mul(*d))?;
    Some(bits / 8)
}

/// Reads a file of `length` bytes. Error messages name it `source`.
///
/// # Errors
/// [`Error::Io`] when reading fails; [`Error::Format`] when the file is invalid.
pub fn read(from: &mut impl Read, length: u64, source: &Path) -> Result<Container> {
    let Index { meta, places, .. } = index(from, length, source)?;
    let tensors = places.into_iter().map(|(name, info)| tensor(from, name, info, source));
    let mut container = Container::new(tensors.collect::<Result<Vec<_>>>()?).with_source(source);
    container.meta = meta;
    Ok(container)
}

/// The header of a file: everything but the values.
pub struct Index {
    /// Metadata, by key.
    pub meta: BTreeMap<String, String>,
    /// Offset in bytes of the values in the file.
    pub start: u64,
    /// Names and types of the tensors in the order of their offsets; together they fill the file exactly.
    pub places: Vec<(String, TensorInfo)>,
}

/// Reads and checks the header of a file of `length` bytes, and leaves `from` at the first value.
///
/// # Errors
/// Those of [`read`].
pub fn index(from: &mut impl Read, length: u64, source: &Path) -> Result<Index> {
    let wrong = |why: String| Error::Format(format!("{}: {why}", source.display()));
    let found = Header::read(from, length).map_err(|e| failed(e, source))?;
    let (header, start) = found.map_err(wrong)?;
    let places = header.places(length - start).map_err(wrong)?;
    Ok(Index { meta: header.meta, start, places })
}

/// A file that ends early is damaged; any other failure is the system's.
fn failed(e: io::Error, source: &Path) -> Error {
    match e.kind() {
        ErrorKind::UnexpectedEof => Error::Format(format!("{}: it is cut short", source.display())),
        _ => Error::io(source, e),
    }
}

/// Reads the values of a tensor of an [`Index`]; `from` must be at its first value.
///
/// # Errors
/// Those of [`read`].
pub fn tensor(from: &mut impl Read, name: String, info: TensorInfo, source: &Path) -> Result<Tensor> {
    let failed = |e| failed(e, source);
    let count = info.shape.iter().product();
    let data = match info.dtype {
        Dtype::F32 => TensorData::F32(take(from, count, f32::from_le_bytes).map_err(failed)?),
        // Of other programs: half precision is widened, double rounded.
        Dtype::F16 => {
            TensorData::F32(take(from, count, |b| half::f16::from_le_bytes(b).to_f32()).map_err(failed)?)
        }
        Dtype::BF16 => {
            TensorData::F32(take(from, count, |b| half::bf16::from_le_bytes(b).to_f32()).map_err(failed)?)
        }
        Dtype::F64 => TensorData::F32(take(from, count, |b| f64::from_le_bytes(b) as f32).map_err(failed)?),
        Dtype::I32 => TensorData::I32(take(from, count, i32::from_le_bytes).map_err(failed)?),
        Dtype::I64 => TensorData::I64(take(from, count, i64::from_le_bytes).map_err(failed)?),
        Dtype::U8 => TensorData::U8(take(from, count, |[b]| b).map_err(failed)?),
        other => {
            let (source, name) = (source.display(), shown(&name));
            let known = "supported are floats of 16 to 64 bits, int32, int64 and uint8";
            return Err(Error::Format(format!("{source}: tensor `{name}` is of type {other}; {known}")));
        }
    };
    Ok(Tensor { name, shape: info.shape, data })
}

/// Reads `count` values. The caller has made sure that the file is long enough for them.
fn take<T, const N: usize>(
    from: &mut impl Read,
    count: usize,
    convert: impl Fn([u8; N]) -> T,
) -> io::Result<Vec<T>> {
    let mut out = Vec::new();
    out.try_reserve_exact(count).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
    let mut buffer = vec![0; CHUNK.min(count * N)];
    while out.len() < count {
        let bytes = CHUNK.min((count - out.len()) * N);
        from.read_exact(&mut buffer[..bytes])?;
        out.extend(buffer[..bytes].as_chunks::<N>().0.iter().map(|b| convert(*b)));
    }
    Ok(out)
}

/// A parsed header in the order of the file. Offsets have not been checked.
struct Header {
    meta: BTreeMap<String, String>,
    tensors: Vec<(String, TensorInfo)>,
}

impl Header {
    /// Reads the header of a file of `length` bytes and the offset of its values; the inner error says why it is
    /// invalid.
    fn read(from: &mut impl Read, length: u64) -> io::Result<Result<(Self, u64), String>> {
        if length < 8 {
            return Ok(Err(format!("not a safetensors file: it has only {length} bytes")));
        }
        let mut size = [0; 8];
        from.read_exact(&mut size)?;
        let size = u64::from_le_bytes(size);
        if size > LONGEST || size > length - 8 {
            let most = LONGEST.min(length - 8);
            let why = format!("its header of {size} bytes is longer than the {most} that are possible");
            return Ok(Err(format!("not a safetensors file, or cut short: {why}")));
        }
        let mut text = Vec::new();
        if from.by_ref().take(size).read_to_end(&mut text)? as u64 != size {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if text.first() != Some(&b'{') {
            return Ok(Err("not a safetensors file: its header does not start with `{`".to_string()));
        }
        let parsed = serde_json::from_slice::<Self>(&text);
        Ok(parsed.map(|h| (h, 8 + size)).map_err(|e| {
            let why: String = e.to_string().chars().take(200).flat_map(char::escape_debug).collect();
            format!("its header cannot be parsed: {why}")
        }))
    }

    /// The tensors in the order of their offsets; checks that they fill exactly `length` bytes.
    fn places(&self, length: u64) -> Result<Vec<(String, TensorInfo)>, String> {
        let mut tensors = self.tensors.clone();
        tensors.sort_by_key(|(_, info)| info.data_offsets);
        let mut end = 0usize;
        for (i, (name, info)) in tensors.iter().enumerate() {
            let (from, to) = info.data_offsets;
            let name = shown(name);
            if from < end {
                let before = shown(&tensors[i.saturating_sub(1)].0);
                return Err(format!("tensors `{before}` and `{name}` overlap at byte {from} of the values"));
            }
            if from > end {
                return Err(format!(
                    "bytes {end} to {from} of the values, before `{name}`, belong to no tensor"
                ));
            }
            if to < from || to as u64 > length {
                return Err(format!("tensor `{name}` ends at byte {to} of {length}; cut short or damaged"));
            }
            let (shape, dtype) = (&info.shape, info.dtype);
            if bytes_of(dtype, shape) != Some(to - from) {
                return Err(format!("tensor `{name}` of {} bytes cannot be {dtype} {shape:?}", to - from));
            }
            end = to;
        }
        if end as u64 != length {
            return Err(format!("its tensors have {end} bytes, but there are {length}"));
        }
        Ok(tensors)
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Entries)
    }
}

/// Reads the entries of a header one by one, because a map would hide repeated names.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let twice = |name: &str| serde::de::Error::custom(format!("`{}` occurs twice", shown(name)));
        let (mut meta, mut tensors, mut names) = (None, Vec::new(), BTreeSet::new());
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(twice(&name));
            }
            if name == META {
                meta = Some(map.next_value::<Metadata>()?.0);
            } else {
                tensors.push((name, map.next_value::<TensorInfo>()?));
            }
        }
        Ok(Header { meta: meta.unwrap_or_default(), tensors })
    }
}

/// Metadata: a map from strings to strings in which no key occurs twice.
struct Metadata(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if let Some(key) = entries.contains_key(&key).then(|| shown(&key)) {
                        return Err(serde::de::Error::custom(format!("metadata `{key}` occurs twice")));
                    }
                    entries.insert(key, value);
                }
                Ok(Metadata(entries))
            }
        }
        from.deserialize_map(Pairs)
    }
}
