//! A lazy reader of safetensors files: the header is read at once, each tensor when it is asked for.
//!
//! Invariant: the whole header is checked before anything is returned, and a tensor that is returned has passed the
//! same checks as one of a [`Container`] that was read at once.

use super::damaged;
use crate::error::{Error, Result};
use engine::Mmap;
use jempp_formats::container::Container;
use jempp_formats::container::format::{self, Index};
use safetensors::tensor::TensorInfo;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The bytes of a file: memory-mapped, or held in memory.
#[derive(Debug)]
pub(crate) enum FileBytes {
    /// A memory-mapped file.
    Mapped(Mmap),
    /// Bytes in memory.
    Owned(Vec<u8>),
}

impl FileBytes {
    /// Maps the file that is open at `path`.
    ///
    /// # Errors
    /// [`Error::Format`] when it is not a regular file; [`Error::Io`].
    pub(crate) fn map(file: &File, path: &Path) -> Result<Self> {
        let about = file.metadata().map_err(|e| Error::io(path, e))?;
        if !about.is_file() {
            return Err(damaged(path, "not a file"));
        }
        // An empty file cannot be mapped.
        match about.len() {
            0 => Ok(Self::Owned(Vec::new())),
            _ => Ok(Self::Mapped(Mmap::map(file).map_err(|e| Error::io(path, e))?)),
        }
    }

    /// All bytes.
    pub(crate) fn all(&self) -> &[u8] {
        match self {
            Self::Mapped(m) => m,
            Self::Owned(v) => v,
        }
    }
}

/// A safetensors file whose tensors are read on demand.
#[derive(Debug)]
pub struct LazyReader {
    bytes: FileBytes,
    /// The metadata strings of the header, by key.
    pub metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, TensorInfo>,
    /// Offset of the first tensor's values.
    start: usize,
    source: PathBuf,
}

impl LazyReader {
    /// Reads the header of a safetensors file that is in memory; error messages call it `source`.
    ///
    /// # Errors
    /// [`Error::Format`] when the header is damaged or does not match the length of `bytes`.
    pub fn from_bytes(bytes: Vec<u8>, source: &Path) -> Result<Self> {
        Self::new(FileBytes::Owned(bytes), source)
    }

    /// Reads the header of the safetensors file in `bytes`; error messages call it `source`.
    pub(crate) fn new(bytes: FileBytes, source: &Path) -> Result<Self> {
        let length = bytes.all().len() as u64;
        let Index { meta, start, places } = format::index(&mut bytes.all(), length, source)?;
        let (tensors, start) = (places.into_iter().collect(), start as usize);
        Ok(Self { bytes, metadata: meta, tensors, start, source: source.to_path_buf() })
    }

    /// A container with the file's metadata and no tensors.
    pub(crate) fn header(&self) -> Container {
        let mut header = Container::default().with_source(&self.source);
        header.meta = self.metadata.clone();
        header
    }

    /// The tensors' names, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    /// Whether there is a tensor `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of the tensor `name`, if there is one.
    pub(crate) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|info| info.shape.clone())
    }

    /// Reads those of the tensors `names` that exist. The container has no metadata.
    ///
    /// # Errors
    /// [`Error::Format`] when one has an unsupported data type, or holds a float that is NaN or infinite.
    pub fn read(&self, names: &[&str]) -> Result<Container> {
        let mut tensors = Vec::with_capacity(names.len());
        for name in names {
            let Some(info) = self.tensors.get(*name) else { continue };
            let mut from = &self.bytes.all()[self.start + info.data_offsets.0..];
            tensors.push(format::tensor(&mut from, (*name).to_owned(), info.clone(), &self.source)?);
        }
        let container = Container::new(tensors).with_source(&self.source);
        container.check_finite()?;
        Ok(container)
    }

    /// Reads the whole file. Floats may be NaN or infinite.
    ///
    /// # Errors
    /// [`Error::Format`] when a tensor has an unsupported data type.
    pub(crate) fn read_all(&self) -> Result<Container> {
        Ok(Container::from_bytes(self.bytes.all(), &self.source)?)
    }

    /// Checks that there is a tensor `name` of this shape, without reading its values.
    ///
    /// # Errors
    /// [`Error::Format`] if there is none, or it has another shape.
    pub(crate) fn expect(&self, name: &str, shape: &[usize]) -> Result<()> {
        match self.tensors.get(name) {
            Some(info) if info.shape == shape => Ok(()),
            // All tensors are read, so that the message can suggest a name that is there instead.
            _ => Ok(self.read(&self.names())?.f32(name, shape).map(|_| ())?),
        }
    }
}
