//! Named tensors with string metadata, in memory.
//!
//! Invariant: a lookup returns exactly the type and shape that were asked for, or an error that names the file, the
//! tensor, what was expected and what was found.

use crate::edit::distance;
use crate::error::{Error, Result};
use crate::place::shown;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Values of one tensor, last index fastest.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 32-bit integers.
    I32(Vec<i32>),
    /// Bytes.
    U8(Vec<u8>),
    /// 64-bit integers.
    I64(Vec<i64>),
}

impl TensorData {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::U8(v) => v.len(),
            Self::I64(v) => v.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name of the element type for messages, such as `float32`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::F32(_) => "float32",
            Self::I32(_) => "int32",
            Self::U8(_) => "uint8",
            Self::I64(_) => "int64",
        }
    }
}

/// A named tensor. Filters are O×I×H×W and images N×C×H×W, as on disk; see [`super::layout`].
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Name, unique in its container.
    pub name: String,
    /// Extents, slowest first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Values.
    pub data: TensorData,
}

impl Tensor {
    /// A tensor of any type.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>, data: TensorData) -> Self {
        Self { name: name.into(), shape: shape.into(), data }
    }

    /// A tensor of float32.
    pub fn f32(name: impl Into<String>, shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Self {
        Self::new(name, shape, TensorData::F32(values))
    }

    /// A tensor of int32.
    pub fn i32(name: impl Into<String>, shape: impl Into<Vec<usize>>, values: Vec<i32>) -> Self {
        Self::new(name, shape, TensorData::I32(values))
    }

    /// A tensor of uint8.
    pub fn u8(name: impl Into<String>, shape: impl Into<Vec<usize>>, values: Vec<u8>) -> Self {
        Self::new(name, shape, TensorData::U8(values))
    }

    /// A tensor of int64.
    pub fn i64(name: impl Into<String>, shape: impl Into<Vec<usize>>, values: Vec<i64>) -> Self {
        Self::new(name, shape, TensorData::I64(values))
    }
}

/// The content of a safetensors file. Equality ignores the order of the tensors and the file they came from.
#[derive(Clone, Debug, Default)]
pub struct Container {
    /// The tensors.
    pub tensors: Vec<Tensor>,
    /// Metadata, by key.
    pub meta: BTreeMap<String, String>,
    /// The file they came from, for messages.
    source: Option<PathBuf>,
}

impl PartialEq for Container {
    fn eq(&self, other: &Self) -> bool {
        let sorted = |c: &Self| {
            let mut order: Vec<usize> = (0..c.tensors.len()).collect();
            order.sort_by(|a, b| c.tensors[*a].name.cmp(&c.tensors[*b].name));
            order
        };
        self.meta == other.meta
            && self.tensors.len() == other.tensors.len()
            && sorted(self).into_iter().zip(sorted(other)).all(|(a, b)| self.tensors[a] == other.tensors[b])
    }
}

impl Container {
    /// A container of `tensors`, without metadata.
    pub fn new(tensors: impl Into<Vec<Tensor>>) -> Self {
        Self { tensors: tensors.into(), ..Self::default() }
    }

    /// Sets the file name that error messages give.
    pub fn with_source(mut self, source: &Path) -> Self {
        self.source = Some(source.to_path_buf());
        self
    }

    /// The tensor `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|t| t.name == name)
    }

    /// The tensor `name`.
    ///
    /// # Errors
    /// [`Error::Format`] when there is none.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.get(name).ok_or_else(|| {
            let close = self.tensors.iter().map(|t| (distance(name, &t.name), &t.name)).min();
            let hint = match close.filter(|(d, _)| *d <= 1.max(name.chars().count() / 3)) {
                Some((_, near)) => format!("; did you mean `{}`?", shown(near)),
                None => format!(" among its {}", self.tensors.len()),
            };
            self.wrong(format!("there is no tensor `{name}`{hint}"))
        })
    }

    /// The float32 values of `name`, whose shape must be `shape`.
    ///
    /// # Errors
    /// [`Error::Format`] when there is no such tensor or its type or shape differs.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<&[f32]> {
        self.typed(name, shape, "float32", |d| if let TensorData::F32(v) = d { Some(v) } else { None })
    }

    /// The int32 values of `name`, whose shape must be `shape`.
    ///
    /// # Errors
    /// Those of [`Container::f32`].
    pub fn i32(&self, name: &str, shape: &[usize]) -> Result<&[i32]> {
        self.typed(name, shape, "int32", |d| if let TensorData::I32(v) = d { Some(v) } else { None })
    }

    /// The uint8 values of `name`, whose shape must be `shape`.
    ///
    /// # Errors
    /// Those of [`Container::f32`].
    pub fn u8(&self, name: &str, shape: &[usize]) -> Result<&[u8]> {
        self.typed(name, shape, "uint8", |d| if let TensorData::U8(v) = d { Some(v) } else { None })
    }

    /// The int64 values of `name`, whose shape must be `shape`.
    ///
    /// # Errors
    /// Those of [`Container::f32`].
    pub fn i64(&self, name: &str, shape: &[usize]) -> Result<&[i64]> {
        self.typed(name, shape, "int64", |d| if let TensorData::I64(v) = d { Some(v) } else { None })
    }

    fn typed<'a, T>(
        &'a self,
        name: &str,
        shape: &[usize],
        kind: &str,
        of: impl Fn(&'a TensorData) -> Option<&'a Vec<T>>,
    ) -> Result<&'a [T]> {
        let tensor = self.tensor(name)?;
        match of(&tensor.data) {
            Some(values) if tensor.shape == shape => Ok(values),
            _ => {
                let found = format!("{} {:?}", tensor.data.kind(), tensor.shape);
                Err(self.wrong(format!("tensor `{name}`: expected {kind} {shape:?}, found {found}")))
            }
        }
    }

    /// The metadata value of `key`.
    ///
    /// # Errors
    /// [`Error::Format`] when there is none.
    pub fn text(&self, key: &str) -> Result<&str> {
        let text = self.meta.get(key).map(String::as_str);
        text.ok_or_else(|| self.wrong(format!("its metadata does not say `{key}`")))
    }

    /// Checks that all floats are finite.
    ///
    /// # Errors
    /// [`Error::Format`] naming the tensor and the index of the first that is not.
    pub fn check_finite(&self) -> Result<()> {
        self.tensors.iter().try_for_each(|t| self.check_finite_values(t))
    }

    /// Checks that all floats of the tensor `name` are finite; a missing tensor passes.
    ///
    /// # Errors
    /// [`Error::Format`] naming the tensor and the index of the first value that is not.
    pub fn check_finite_tensor(&self, name: &str) -> Result<()> {
        self.get(name).map_or(Ok(()), |t| self.check_finite_values(t))
    }

    fn check_finite_values(&self, t: &Tensor) -> Result<()> {
        let Some((at, v)) = non_finite(t) else { return Ok(()) };
        let name = shown(&t.name);
        Err(self.wrong(format!("tensor `{name}`: value {at} of {} is {v}", t.data.len())))
    }

    /// An [`Error::Format`] with the reason `why` that names the file, if known.
    pub fn wrong(&self, why: String) -> Error {
        match &self.source {
            Some(path) => Error::Format(format!("{}: {why}", path.display())),
            None => Error::Format(why),
        }
    }
}

/// The first float of a tensor that is NaN or infinite: its index among the values, and itself.
fn non_finite(t: &Tensor) -> Option<(usize, f32)> {
    let TensorData::F32(values) = &t.data else { return None };
    let at = values.iter().position(|v| !v.is_finite())?;
    Some((at, values[at]))
}
