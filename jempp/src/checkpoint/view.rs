//! A model's file of which only what is asked for is read.
//!
//! Invariant: the header is checked whole before anything is given out; a tensor that is given out is checked like one
//! of a [`Container`] that was read at once.

use super::container::Container;
use super::damaged;
use super::format::{self, Index};
use super::load::checked_model;
use crate::error::{Error, Result};
use engine::Mapped;
use safetensors::tensor::TensorInfo;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A safetensors file in memory or mapped, its values not yet looked at.
#[derive(Debug)]
pub struct View {
    bytes: Bytes,
    /// Words about the tensors, by key.
    pub meta: BTreeMap<String, String>,
    places: BTreeMap<String, TensorInfo>,
    start: usize,
    source: PathBuf,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mapped),
    Owned(Vec<u8>),
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Self::Mapped(m) => m.bytes(),
            Self::Owned(v) => v,
        }
    }
}

impl View {
    /// Maps the model that `path` stands for, see [`super::resolve_model`]. In a checkpoint its checksum is verified.
    ///
    /// # Errors
    /// As [`super::load_model`]; [`Error::Format`] for a PyTorch file.
    pub fn open(path: &Path) -> Result<Self> {
        let (path, file) = checked_model(path)?;
        let about = file.metadata().map_err(|e| Error::io(&path, e))?;
        if !about.is_file() {
            return Err(damaged(&path, "not a file"));
        }
        // Nothing can be mapped of an empty file.
        let bytes = match about.len() {
            0 => Bytes::Owned(Vec::new()),
            _ => Bytes::Mapped(Mapped::new(&file).map_err(|e| Error::io(&path, e))?),
        };
        Self::of(bytes, path)
    }

    /// Of a file's content; messages call it `source`.
    ///
    /// # Errors
    /// [`Error::Format`] when the content is not what its format says.
    pub fn of_bytes(bytes: Vec<u8>, source: &Path) -> Result<Self> {
        Self::of(Bytes::Owned(bytes), source.to_path_buf())
    }

    fn of(bytes: Bytes, source: PathBuf) -> Result<Self> {
        let mut all = bytes.all();
        if all.starts_with(b"PK\x03\x04") || all.starts_with(b"\x80\x02") {
            return Err(damaged(
                &source,
                "this is a PyTorch file, which cannot be loaded here; models are safetensors files as `jempp-cli train` \
                 and Model::save write them",
            ));
        }
        let length = all.len() as u64;
        let Index { meta, start, places } = format::index(&mut all, length, &source)?;
        Ok(Self { bytes, meta, places: places.into_iter().collect(), start: start as usize, source })
    }

    /// The tensors' names.
    pub fn names(&self) -> Vec<&str> {
        self.places.keys().map(String::as_str).collect()
    }

    /// Whether there is a tensor `name`.
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Those of the tensors `names` that there are, read now.
    ///
    /// # Errors
    /// [`Error::Format`] when one is of a type that is not read, or holds a float that is NaN or infinite.
    pub fn container(&self, names: &[&str]) -> Result<Container> {
        let mut tensors = Vec::with_capacity(names.len());
        for name in names {
            let Some(info) = self.places.get(*name) else { continue };
            let mut from = &self.bytes.all()[self.start + info.data_offsets.0..];
            tensors.push(format::tensor(&mut from, (*name).to_owned(), info.clone(), &self.source)?);
        }
        let container = Container::new(tensors).with_source(&self.source);
        container.check_finite()?;
        Ok(container)
    }
}
