//! A model's file of which only what is asked for is read. Files of PyTorch have to be read whole.
//!
//! Invariant: the header is checked whole before anything is given out; a tensor that is given out is checked like one
//! of a [`Container`] that was read at once.

use super::damaged;
use super::load::checked_model;
use crate::error::{Error, Result};
use crate::interop::torch;
use engine::Mmap;
use jempp_formats::container::Container;
use jempp_formats::container::format::{self, Index};
use safetensors::tensor::TensorInfo;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A safetensors file in memory or mapped, its values not yet looked at; or what a file of PyTorch holds.
#[derive(Debug)]
pub struct View {
    bytes: Bytes,
    /// Words about the tensors, by key.
    pub meta: BTreeMap<String, String>,
    places: BTreeMap<String, TensorInfo>,
    start: usize,
    /// All of it, of a file of PyTorch.
    whole: Option<Container>,
    source: PathBuf,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Self::Mapped(m) => m,
            Self::Owned(v) => v,
        }
    }
}

impl View {
    /// Maps the model that `path` stands for, see [`super::resolve_model`]. In a checkpoint its checksum is verified.
    ///
    /// # Errors
    /// As [`super::load_model`].
    pub fn open(path: &Path) -> Result<Self> {
        let (path, file) = checked_model(path)?;
        let about = file.metadata().map_err(|e| Error::io(&path, e))?;
        if !about.is_file() {
            return Err(damaged(&path, "not a file"));
        }
        // Nothing can be mapped of an empty file.
        let bytes = match about.len() {
            0 => Bytes::Owned(Vec::new()),
            _ => Bytes::Mapped(Mmap::map(&file).map_err(|e| Error::io(&path, e))?),
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
        if jempp_formats::torch::is_torch(all) {
            let whole = torch::model(all, &source, torch::Hints::default())?;
            let (meta, places, bytes) = (whole.meta.clone(), BTreeMap::new(), Bytes::Owned(Vec::new()));
            return Ok(Self { bytes, meta, places, start: 0, whole: Some(whole), source });
        }
        let length = all.len() as u64;
        let Index { meta, start, places } = format::index(&mut all, length, &source)?;
        let (places, start) = (places.into_iter().collect(), start as usize);
        Ok(Self { bytes, meta, places, start, whole: None, source })
    }

    /// What the file says beside the tensors, without them.
    pub(crate) fn words(&self) -> Container {
        let mut words = Container::default().with_source(&self.source);
        words.meta = self.meta.clone();
        words
    }

    /// The tensors' names.
    pub fn names(&self) -> Vec<&str> {
        match &self.whole {
            Some(whole) => whole.tensors.iter().map(|t| t.name.as_str()).collect(),
            None => self.places.keys().map(String::as_str).collect(),
        }
    }

    /// Whether there is a tensor `name`.
    pub fn has(&self, name: &str) -> bool {
        self.whole.as_ref().map_or_else(|| self.places.contains_key(name), |whole| whole.get(name).is_some())
    }

    /// Those of the tensors `names` that there are, read now.
    ///
    /// # Errors
    /// [`Error::Format`] when one is of a type that is not read, or holds a float that is NaN or infinite.
    pub fn container(&self, names: &[&str]) -> Result<Container> {
        let mut tensors = Vec::with_capacity(names.len());
        for name in names {
            if let Some(tensor) = self.whole.as_ref().and_then(|whole| whole.get(name)) {
                tensors.push(tensor.clone());
            }
            let Some(info) = self.places.get(*name) else { continue };
            let mut from = &self.bytes.all()[self.start + info.data_offsets.0..];
            tensors.push(format::tensor(&mut from, (*name).to_owned(), info.clone(), &self.source)?);
        }
        let container = Container::new(tensors).with_source(&self.source);
        container.check_finite()?;
        Ok(container)
    }

    /// Checks that there is a tensor `name` of this shape, without reading it.
    ///
    /// # Errors
    /// [`Error::Format`] if there is none, or of another shape.
    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<()> {
        match self.places.get(name) {
            Some(info) if info.shape == shape => Ok(()),
            // What is missing or wrong is said by all of the file, so that the message can name what is there instead.
            _ => Ok(self.container(&self.names())?.f32(name, shape).map(|_| ())?),
        }
    }
}
