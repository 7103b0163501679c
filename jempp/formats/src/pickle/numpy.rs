//! NumPy arrays and scalars in pickles.
//!
//! Source: `ndarray.__reduce__` and `__reduce_ex__` of NumPy 1 and 2: `_reconstruct` with a state (protocols 0 to 4)
//! and `_frombuffer` (protocol 5); the modules are called `numpy.core…` before NumPy 2 and `numpy._core…` since.

use super::value::{Item, Items, Value};
use std::borrow::Cow;

/// A numeric array.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<'p> {
    /// NumPy's type code, such as `u1` or `f8`.
    pub dtype: String,
    /// Whether the values are big-endian.
    pub big: bool,
    /// Whether the first index varies fastest (Fortran order).
    pub fortran: bool,
    /// The extent of each dimension.
    pub shape: Vec<usize>,
    /// The values, exactly as many as the shape requires.
    pub bytes: Cow<'p, [u8]>,
}

/// NumPy's limit on dimensions.
const MOST_DIMS: usize = 64;

/// Reads `item` as an array.
///
/// # Errors
/// A message, if it is not an array of numbers or its parts are inconsistent.
pub fn array(item: Item<'_>) -> Result<Array<'_>, String> {
    let no = || format!("{} is not a NumPy array", item.kind());
    let (shape, dtype, fortran, bytes) = if let Some(args) = core(item, "numeric", "_frombuffer") {
        let get = |i| args.get(i).ok_or_else(no);
        let fortran = match get(3)?.as_str() {
            Some("C") => false,
            Some("F") => true,
            _ => return Err(no()),
        };
        (get(2)?, get(1)?, fortran, get(0)?)
    } else if core(item, "multiarray", "_reconstruct").is_some() {
        let state = item.state().and_then(Item::as_items).ok_or_else(no)?;
        let get = |i| state.get(i).ok_or_else(no);
        let fortran = matches!(get(3)?.value(), Value::Bool(true));
        (get(1)?, get(2)?, fortran, get(4)?)
    } else {
        return Err(no());
    };
    let shape = shape.as_items().filter(|s| s.len() <= MOST_DIMS).ok_or_else(no)?;
    let shape: Option<Vec<usize>> = shape.iter().map(|d| usize::try_from(d.as_int()?).ok()).collect();
    let shape = shape.ok_or("a shape that is not a tuple of sizes")?;
    let (dtype, big, width) = dtype_of(dtype)?;
    let bytes = bytes.as_bytes().ok_or_else(|| format!("its data are {}, not bytes", bytes.kind()))?;
    let wanted = shape.iter().try_fold(width, |n, d| n.checked_mul(*d));
    if wanted != Some(bytes.len()) {
        return Err(format!("shape {shape:?} of {dtype} does not match {} bytes", bytes.len()));
    }
    Ok(Array { dtype, big, fortran, shape, bytes })
}

/// Reads `item` as `n` integers: a list of Python integers or NumPy scalars, or a one-dimensional array.
///
/// # Errors
/// A message, if an element is not an integer or their number differs.
pub fn integers(item: Item<'_>, n: usize) -> Result<Vec<i64>, String> {
    let count = |m: usize| if m == n { Ok(()) } else { Err(format!("{m} integers, not {n}")) };
    if let Some(items) = item.as_items() {
        count(items.len())?;
        let one = |i: Item<'_>| i.as_int().or_else(|| scalar(i));
        return items
            .iter()
            .map(|i| one(i).ok_or_else(|| format!("{} is not an integer", i.kind())))
            .collect();
    }
    let array = array(item)?;
    let width = width(&array.dtype)
        .filter(|_| array.shape.len() == 1)
        .ok_or("neither a list of integers nor a one-dimensional array")?;
    count(array.shape[0])?;
    let value = |b: &[u8]| {
        integer(&array.dtype, array.big, b).ok_or_else(|| format!("{} is not an integer", array.dtype))
    };
    array.bytes.chunks_exact(width).map(value).collect()
}

/// The arguments, if `item` is a call of `numpy.core.MODULE.NAME`.
fn core<'p>(item: Item<'p>, module: &str, name: &str) -> Option<Items<'p>> {
    let Value::Object(object) = item.value() else { return None };
    let Value::Global { module: m, name: n } = object.callable().value() else { return None };
    let rest = m.strip_prefix("numpy.core.").or_else(|| m.strip_prefix("numpy._core."));
    if rest == Some(module) && n == name { object.args().as_items() } else { None }
}

/// The value, if `item` is an integer NumPy scalar.
fn scalar(item: Item<'_>) -> Option<i64> {
    let args = core(item, "multiarray", "scalar")?;
    let (dtype, big, width) = dtype_of(args.get(0)?).ok()?;
    let bytes = args.get(1)?.as_bytes()?;
    if bytes.len() == width { integer(&dtype, big, &bytes) } else { None }
}

/// Reads a dtype: its type code, whether it is big-endian, and the bytes per value.
fn dtype_of(item: Item<'_>) -> Result<(String, bool, usize), String> {
    let no = || format!("{} is not a numeric type", item.kind());
    let name = item.call("numpy", "dtype").and_then(|a| a.get(0)?.as_str()).ok_or_else(no)?;
    let width = width(name).ok_or_else(|| format!("values of type {:?} are not supported", shown(name)))?;
    let state = item.state().and_then(Item::as_items);
    let order = state.and_then(|s| s.get(1)?.as_str()).unwrap_or("=");
    Ok((name.to_owned(), order == ">", width))
}

fn shown(name: &str) -> String {
    name.chars().take(20).collect()
}

/// Bytes per value of a type.
fn width(dtype: &str) -> Option<usize> {
    Some(match dtype {
        "b1" | "u1" | "i1" => 1,
        "u2" | "i2" | "f2" => 2,
        "u4" | "i4" | "f4" => 4,
        "u8" | "i8" | "f8" => 8,
        _ => return None,
    })
}

/// Decodes an integer.
fn integer(dtype: &str, big: bool, bytes: &[u8]) -> Option<i64> {
    let signed = match dtype.as_bytes().first()? {
        b'i' => true,
        b'u' => false,
        _ => return None,
    };
    let mut little = [0; 16];
    let place = little.get_mut(..bytes.len())?;
    place.copy_from_slice(bytes);
    if big {
        place.reverse();
    }
    let negative = signed && place.last()? & 0x80 != 0;
    if negative {
        little[bytes.len()..].fill(0xff);
    }
    i64::try_from(i128::from_le_bytes(little)).ok()
}
