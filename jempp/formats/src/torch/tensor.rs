//! Decoding of tensors from storages.
//!
//! Invariants: a tensor's values are distinct elements of its storage, so its size is bounded by that of the storage
//! (times the widening of the element type); storages are read in place.

use super::storage::{Dtype, View};
use crate::container::{Tensor, TensorData};
use half::{bf16, f16};

/// The data of a storage.
#[derive(Clone, Debug)]
pub struct Raw<'a> {
    /// The values, little-endian.
    pub bytes: &'a [u8],
    /// Location in the file, for messages.
    pub place: String,
}

/// Checks that a storage has its declared size and contains a view without overlap.
///
/// # Errors
/// A message that says what does not match.
pub(super) fn check(view: &View, raw: &Raw<'_>) -> Result<(), String> {
    let (held, place) = (raw.bytes.len() / view.declared.dtype.bytes(), &raw.place);
    if view.declared.count as u128 * view.declared.dtype.bytes() as u128 != raw.bytes.len() as u128 {
        let (count, bytes) = (view.declared.count, raw.bytes.len());
        return Err(format!("{place}: a storage of {count} values cannot have {bytes} bytes"));
    }
    let shape = &view.shape;
    let Some(count) = view.count() else { return Err(format!("{place}: shape {shape:?} is too large")) };
    if count == 0 {
        return Ok(());
    }
    if view.end().is_none_or(|end| end > held) {
        let (offset, strides) = (view.offset, &view.strides);
        return Err(format!(
            "{place}: a tensor {shape:?} with offset {offset} and strides {strides:?} exceeds its {held} values"
        ));
    }
    if view.overlaps_itself() {
        let strides = &view.strides;
        return Err(format!("{place}: values of a tensor {shape:?} with strides {strides:?} overlap"));
    }
    Ok(())
}

/// Decodes a view that has been checked: to float32 if the storage has floating-point values, else to int64.
pub(super) fn read(name: &str, view: &View, raw: &Raw<'_>) -> Tensor {
    let b = raw.bytes;
    let floats = |f: fn(&[u8]) -> f32| TensorData::F32(gather(view, b, f));
    let ints = |f: fn(&[u8]) -> i64| TensorData::I64(gather(view, b, f));
    let data = match view.declared.dtype {
        Dtype::F64 => floats(|b| f64::from_le_bytes(fixed(b)) as f32),
        Dtype::F32 => floats(|b| f32::from_le_bytes(fixed(b))),
        Dtype::F16 => floats(|b| f16::from_le_bytes(fixed(b)).to_f32()),
        Dtype::Bf16 => floats(|b| bf16::from_le_bytes(fixed(b)).to_f32()),
        Dtype::I64 => ints(|b| i64::from_le_bytes(fixed(b))),
        Dtype::I32 => ints(|b| i64::from(i32::from_le_bytes(fixed(b)))),
        Dtype::I16 => ints(|b| i64::from(i16::from_le_bytes(fixed(b)))),
        Dtype::I8 => ints(|b| i64::from(b[0] as i8)),
        Dtype::U8 | Dtype::Bool => ints(|b| i64::from(b[0])),
    };
    Tensor::new(name, view.shape.clone(), data)
}

/// The first `N` bytes.
fn fixed<const N: usize>(b: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&b[..N]);
    out
}

fn gather<T>(view: &View, bytes: &[u8], f: fn(&[u8]) -> T) -> Vec<T> {
    let (size, count) = (view.declared.dtype.bytes(), view.count().unwrap_or(0));
    let mut out = Vec::with_capacity(count);
    if count == 0 {
        return out;
    }
    if view.is_contiguous() {
        let start = view.offset * size;
        out.extend(bytes[start..start + count * size].chunks_exact(size).map(f));
        return out;
    }
    let mut index = vec![0; view.shape.len()];
    for _ in 0..count {
        let at = view.offset + index.iter().zip(&view.strides).map(|(i, s)| i * s).sum::<usize>();
        out.push(f(&bytes[at * size..]));
        for (i, d) in index.iter_mut().zip(&view.shape).rev() {
            *i += 1;
            if *i < *d {
                break;
            }
            *i = 0;
        }
    }
    out
}
