//! The format of `torch.save` before PyTorch 1.6: five consecutive pickles, then the data of the storages.
//!
//! Invariant: each storage lies within the file, after the previous one.
//!
//! Source: `_legacy_save` in PyTorch's `serialization.py`.

use super::storage::Declared;
use super::tensor::Raw;
use crate::pickle::{Item, Pickle};
use std::collections::HashMap;

/// The first pickle: a magic number in protocol 2.
pub(super) const MAGIC: [u8; 15] = *b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// Version of the format, in the second pickle.
const VERSION: i64 = 1001;

/// Reads the pickle of the saved object; also returns the offset of the data after it.
///
/// # Errors
/// Why the file is invalid, with the offset.
pub(super) fn object(bytes: &[u8]) -> Result<(Pickle<'_>, usize), String> {
    let mut at = MAGIC.len();
    let version = next(bytes, &mut at)?;
    if version.root().as_int() != Some(VERSION) {
        return Err(format!("byte {}: its version is not {VERSION}", MAGIC.len()));
    }
    let before = at;
    let system = next(bytes, &mut at)?;
    let little = system.root().as_pairs().and_then(|p| p.get("little_endian"));
    match little.map(Item::value) {
        Some(crate::pickle::Value::Bool(true)) => {}
        _ => return Err(format!("byte {before}: it was not written on a little-endian machine")),
    }
    let object = next(bytes, &mut at)?;
    Ok((object, at))
}

/// Reads the pickle at offset `at` and advances `at` past it.
fn next<'a>(bytes: &'a [u8], at: &mut usize) -> Result<Pickle<'a>, String> {
    let rest = bytes.get(*at..).unwrap_or_default();
    let pickle = Pickle::read(rest).map_err(|f| format!("byte {}: pickle: {}", *at + f.offset, f.why))?;
    *at += pickle.length();
    Ok(pickle)
}

/// Locates the storages in `declared`, which start at offset `at` with a list of their keys.
///
/// # Errors
/// Why one cannot be located, with the offset.
pub(super) fn storages<'a>(
    bytes: &'a [u8],
    mut at: usize,
    declared: &HashMap<String, Declared>,
) -> Result<HashMap<String, Raw<'a>>, String> {
    let before = at;
    let keys = next(bytes, &mut at)?;
    let keys = keys.root().as_items().ok_or_else(|| format!("byte {before}: not a list of storages"))?;
    let mut out = HashMap::new();
    for key in keys.iter() {
        let key =
            key.as_str().ok_or_else(|| format!("byte {before}: the key of a storage is not a string"))?;
        let what =
            declared.get(key).ok_or_else(|| format!("byte {before}: storage {key:.40?} is not used"))?;
        let size = (what.count as usize).checked_mul(what.dtype.bytes());
        let start = at + 8;
        let count = bytes.get(at..start).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        if count != Some(what.count) {
            return Err(format!(
                "byte {at}: storage {key:.40?} of {} values does not begin here",
                what.count
            ));
        }
        let end = size.and_then(|s| start.checked_add(s));
        let Some(raw) = end.and_then(|end| bytes.get(start..end)) else {
            let left = bytes.len().saturating_sub(start);
            return Err(format!(
                "byte {start}: it is cut short: {left} bytes are left of storage {key:.40?}"
            ));
        };
        at = start + raw.len();
        if out.insert(key.to_owned(), Raw { bytes: raw, place: format!("byte {start}") }).is_some() {
            return Err(format!("byte {before}: storage {key:.40?} occurs twice"));
        }
    }
    match bytes.len() - at {
        0 => Ok(out),
        n => Err(format!("byte {at}: {n} unexpected bytes follow the storages")),
    }
}
