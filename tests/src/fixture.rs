//! Reads the reference values of `tests/fixtures`.
//!
//! Invariant: a tensor keeps the file's layout (images N×C×H×W, filters K×C×R×S) until [`Tensor::channels_last`]
//! converts it to the layout in memory.

use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::PathBuf;

/// Why a fixture could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    /// The file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file's content is invalid.
    #[error("{path}: {detail}")]
    Format {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A tensor or case does not exist.
    #[error("the fixture lacks {0}")]
    Missing(String),
}

/// Reference values in float64, which represents the integers exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// Elements, the last axis varying fastest.
    pub data: Vec<f64>,
}

impl Tensor {
    /// N×C×H×W → N×H×W×C and K×C×R×S → K×R×S×C; tensors of other ranks stay as they are.
    pub fn channels_last(self) -> Self {
        let &[n, c, h, w] = &self.shape[..] else { return self };
        let plane = h * w;
        let mut data = Vec::with_capacity(self.data.len());
        for image in self.data.chunks_exact((c * plane).max(1)) {
            for pixel in 0..plane {
                data.extend((0..c).map(|k| image[k * plane + pixel]));
            }
        }
        Self { shape: vec![n, h, w, c], data }
    }

    /// The values as int32: labels, indices.
    pub fn ints(&self) -> Vec<i32> {
        self.data.iter().map(|v| *v as i32).collect()
    }

    /// The values as float32.
    pub fn f32s(&self) -> Vec<f32> {
        self.data.iter().map(|v| *v as f32).collect()
    }
}

/// A file of `tests/fixtures`.
#[derive(Clone, Debug)]
pub struct Fixture {
    tensors: HashMap<String, Tensor>,
    /// The file's metadata.
    pub meta: HashMap<String, String>,
}

impl Fixture {
    /// Reads a file of `tests/fixtures`.
    ///
    /// # Errors
    /// If it does not exist, or is not a safetensors file of float32, float64 and int64 tensors.
    pub fn load(name: &str) -> Result<Self, FixtureError> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
        let bytes = std::fs::read(&path).map_err(|source| FixtureError::Io { path: path.clone(), source })?;
        let wrong = |detail: String| FixtureError::Format { path: path.clone(), detail };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| wrong(e.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(e.to_string()))?;
        let mut tensors = HashMap::new();
        for (name, view) in file.iter() {
            let data = numbers(view.dtype(), view.data())
                .ok_or_else(|| wrong(format!("{name} is {:?}", view.dtype())))?;
            tensors.insert(name.to_owned(), Tensor { shape: view.shape().to_vec(), data });
        }
        Ok(Self { tensors, meta: header.metadata().clone().unwrap_or_default() })
    }

    /// A tensor in the file's layout.
    ///
    /// # Errors
    /// If no tensor has this name.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, FixtureError> {
        self.tensors.get(name).ok_or_else(|| FixtureError::Missing(name.to_owned()))
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// The cases of an op, `op.0`, `op.1` … with their descriptions.
    ///
    /// # Errors
    /// If there is none, or a description is not valid JSON.
    pub fn cases(&self, stem: &str) -> Result<Vec<(String, serde_json::Value)>, FixtureError> {
        let missing = || FixtureError::Missing(format!("cases of {stem}"));
        let named = (0..).map(|i| format!("{stem}.{i}")).map_while(|n| self.meta.get(&n).map(|t| (n, t)));
        let cases: Option<Vec<_>> =
            named.map(|(n, text)| serde_json::from_str(text).ok().map(|v| (n, v))).collect();
        cases.filter(|c| !c.is_empty()).ok_or_else(missing)
    }
}

fn numbers(dtype: Dtype, data: &[u8]) -> Option<Vec<f64>> {
    fn each<const N: usize>(data: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>().0.iter().map(|b| f(*b)).collect()
    }
    Some(match dtype {
        Dtype::F32 => each(data, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::F64 => each(data, f64::from_le_bytes),
        Dtype::I64 => each(data, |b| i64::from_le_bytes(b) as f64),
        _ => return None,
    })
}
