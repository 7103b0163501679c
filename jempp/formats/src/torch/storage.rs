//! Tensors and storages as a pickle of `torch.save` describes them.

use crate::pickle::{Item, Value};

/// Element type of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// `torch.float64`.
    F64,
    /// `torch.float32`.
    F32,
    /// `torch.float16`.
    F16,
    /// `torch.bfloat16`.
    Bf16,
    /// `torch.int64`.
    I64,
    /// `torch.int32`.
    I32,
    /// `torch.int16`.
    I16,
    /// `torch.int8`.
    I8,
    /// `torch.uint8`.
    U8,
    /// `torch.bool`, one byte per value.
    Bool,
}

impl Dtype {
    /// The element type of a PyTorch storage class, by its name.
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "DoubleStorage" => Self::F64,
            "FloatStorage" => Self::F32,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::Bf16,
            "LongStorage" => Self::I64,
            "IntStorage" => Self::I32,
            "ShortStorage" => Self::I16,
            "CharStorage" => Self::I8,
            "ByteStorage" => Self::U8,
            "BoolStorage" => Self::Bool,
            _ => return None,
        })
    }

    /// Bytes per value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }
}

/// Type and size of a storage as the pickle declares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Element type.
    pub dtype: Dtype,
    /// Number of values.
    pub count: u64,
}

/// Reads a persistent identifier of a storage, such as `('storage', torch.FloatStorage, '0', 'cpu', 432)`: its key and
/// declaration. Legacy files may append a view into another storage, which is not supported.
pub(super) fn storage(item: Item<'_>) -> Result<(&str, Declared), String> {
    let parts = item.as_items().filter(|p| p.get(0).and_then(Item::as_str) == Some("storage"));
    let parts = parts.ok_or_else(|| format!("{} instead of a storage", item.kind()))?;
    let class = parts.get(1).map(Item::value);
    let (Some(Value::Global { module: "torch", name }), Some(key)) =
        (class, parts.get(2).and_then(Item::as_str))
    else {
        return Err("a storage of an unsupported type".into());
    };
    let Some(dtype) = Dtype::of(name) else {
        return Err(format!("a storage of the type torch.{name:.40}, which is not supported"));
    };
    match parts.get(5).map(Item::value) {
        None | Some(Value::None) => {}
        _ => return Err(format!("storage {key:.40?} is a view of another, which is not supported")),
    }
    let count = parts.get(4).and_then(Item::as_int).and_then(|n| u64::try_from(n).ok());
    let count = count.ok_or_else(|| format!("storage {key:.40?} has no number of values"))?;
    Ok((key, Declared { dtype, count }))
}

/// A tensor as a pickle describes it: a view of a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Key of the storage.
    pub key: String,
    /// Type and size of the storage.
    pub declared: Declared,
    /// Index of the first value in the storage.
    pub offset: usize,
    /// Extents, slowest first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Distance in values between neighbours along each axis.
    pub strides: Vec<usize>,
}

/// Largest number of dimensions; models need 4.
const MOST_DIMS: usize = 8;

impl View {
    /// Reads the tensor or parameter that `item` describes; `None` if it is something else.
    ///
    /// # Errors
    /// The inner error says what is wrong with the tensor.
    pub fn of(item: Item<'_>) -> Option<Result<Self, String>> {
        let inner = match item.call("torch._utils", "_rebuild_parameter") {
            Some(args) => args.get(0)?,
            None => item,
        };
        let args = inner.call("torch._utils", "_rebuild_tensor_v2");
        let args = args.or_else(|| inner.call("torch._utils", "_rebuild_tensor"))?;
        let read = || {
            let Some(Value::Persistent(name)) = args.get(0).map(Item::value) else {
                return Err("a tensor without a storage".to_owned());
            };
            let (key, declared) = storage(name)?;
            let offset = args.get(1).and_then(Item::as_int).and_then(|n| usize::try_from(n).ok());
            let (shape, strides) = (extents(args.get(2)), extents(args.get(3)));
            match (offset, shape, strides) {
                (Some(offset), Some(shape), Some(strides)) if shape.len() == strides.len() => {
                    Ok(Self { key: key.to_owned(), declared, offset, shape, strides })
                }
                _ => Err("a tensor with an invalid offset, shape or strides".to_owned()),
            }
        };
        Some(read())
    }

    /// Number of values; `None` on overflow.
    pub fn count(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
    }

    /// One past the largest index into the storage; `None` for an empty view or on overflow.
    pub fn end(&self) -> Option<usize> {
        let mut last = self.offset;
        for (d, s) in self.shape.iter().zip(&self.strides) {
            last = last.checked_add(d.checked_sub(1)?.checked_mul(*s)?)?;
        }
        last.checked_add(1)
    }

    /// Whether two of its values may share a place in the storage.
    pub(super) fn overlaps_itself(&self) -> bool {
        let mut axes: Vec<(usize, usize)> =
            self.strides.iter().copied().zip(self.shape.iter().copied()).filter(|(_, d)| *d > 1).collect();
        axes.sort_unstable();
        // Each stride must exceed the reach of all axes with smaller strides.
        let mut reach = 0usize;
        axes.into_iter().any(|(stride, d)| {
            let over = stride <= reach;
            reach = reach.saturating_add(stride.saturating_mul(d - 1));
            over
        })
    }

    /// Whether its values are contiguous in the storage, in C order.
    pub(super) fn is_contiguous(&self) -> bool {
        let mut step = 1usize;
        self.shape.iter().zip(&self.strides).rev().all(|(d, s)| {
            let fits = *d == 1 || *s == step;
            step = step.saturating_mul(*d);
            fits
        })
    }
}

fn extents(item: Option<Item<'_>>) -> Option<Vec<usize>> {
    // `torch.Size` is pickled as a call with a tuple.
    let items = item?.call("torch", "Size").map_or(item, |args| args.get(0))?.as_items()?;
    if items.len() > MOST_DIMS {
        return None;
    }
    items.iter().map(|i| usize::try_from(i.as_int()?).ok()).collect()
}
