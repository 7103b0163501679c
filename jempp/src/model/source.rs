//! Where a model's tensors come from. The choice between file formats is made here and nowhere else.
//!
//! Invariant: after this, a published PyTorch checkpoint and a safetensors file look alike: tensors by their published
//! names, metadata by key.

use super::file::architecture;
use super::published::{self, Hints};
use super::start_samples::{NAMES, StartSamples};
use crate::checkpoint::{FileBytes, LazyReader, open_model};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use jempp_formats::container::Container;
use jempp_formats::kind::{self, Kind};
use jempp_formats::torch::is_torch;
use std::borrow::Cow;
use std::path::Path;

/// The content of a model file, whatever its format.
#[derive(Debug)]
pub enum ModelSource<'a> {
    /// A safetensors file, whose tensors are read on demand.
    Lazy(LazyReader),
    /// A whole file in memory, such as a converted PyTorch checkpoint.
    Whole(Cow<'a, Container>),
}

impl ModelSource<'static> {
    /// Opens the model that `path` stands for, see [`crate::checkpoint::resolve_model`]: a safetensors file, which is
    /// memory-mapped, or a published PyTorch checkpoint, which is converted. The checksum of a model in a checkpoint
    /// folder is verified.
    ///
    /// # Errors
    /// [`Error::Data`] when there is no model; [`Error::Format`] when it is damaged; [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, Hints::default())
    }

    /// Opens a model as [`ModelSource::open`] does; `hints` supply what a published PyTorch checkpoint does not say.
    ///
    /// # Errors
    /// Those of [`ModelSource::open`]; [`Error::Config`] for hints about a safetensors file, which needs none.
    pub(crate) fn open_with(path: &Path, hints: Hints) -> Result<Self> {
        let (path, file) = open_model(path)?;
        Self::new(FileBytes::map(&file, &path)?, &path, hints)
    }

    /// The content of a model file in memory; error messages call it `source`.
    ///
    /// # Errors
    /// [`Error::Format`] when it is damaged.
    pub fn from_bytes(bytes: Vec<u8>, source: &Path) -> Result<Self> {
        Self::new(FileBytes::Owned(bytes), source, Hints::default())
    }

    fn new(bytes: FileBytes, source: &Path, hints: Hints) -> Result<Self> {
        if is_torch(bytes.all()) {
            return Ok(Self::Whole(Cow::Owned(published::read(bytes.all(), source, hints)?)));
        }
        let start = &bytes.all()[..bytes.all().len().min(512)];
        let what = kind::of(start);
        if !matches!(what, Kind::Unknown | Kind::Json | Kind::Image(_)) {
            return Err(Error::Format(format!(
                "{}: no model, but {}; a model is a run folder, or a file of safetensors or torch.save",
                source.display(),
                what.with_article()
            )));
        }
        let reader = LazyReader::new(bytes, source)?;
        // Our own files say that they are; those of other programs say nothing, or `pt`.
        let ours = reader.metadata.get("format").is_some_and(|f| f != "pt");
        if !ours && published::is_foreign(&reader.names()) {
            let file = reader.read_all()?;
            return Ok(Self::Whole(Cow::Owned(published::read_safetensors(file, source, hints)?)));
        }
        if hints != Hints::default() {
            return Err(Error::Config(format!(
                "{}: its metadata already has norm and image size; --norm and --image-size are for published \
                 checkpoints",
                source.display()
            )));
        }
        Ok(Self::Lazy(reader))
    }
}

impl ModelSource<'_> {
    /// The architecture of the model.
    ///
    /// # Errors
    /// [`Error::Format`] when it is missing or impossible, or the file has another format.
    pub fn architecture(&self) -> Result<ModelConfig> {
        architecture(&self.header())
    }

    /// The samples that chains may start from, if the model carries any.
    ///
    /// # Errors
    /// [`Error::Format`] when they are corrupt.
    pub(crate) fn start_samples(&self) -> Result<Option<StartSamples>> {
        let ModelConfig { image_size, classes, .. } = self.architecture()?;
        StartSamples::read(&*self.tensors(&NAMES)?, image_size, classes)
    }

    /// The shape of the tensor `name`, in the axis order of files; `None` if there is no such tensor.
    pub(crate) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match self {
            Self::Lazy(reader) => reader.shape(name),
            Self::Whole(c) => c.get(name).map(|t| t.shape.clone()),
        }
    }

    /// A container that has at least the metadata.
    pub(crate) fn header(&self) -> Cow<'_, Container> {
        match self {
            Self::Lazy(reader) => Cow::Owned(reader.header()),
            Self::Whole(c) => Cow::Borrowed(c),
        }
    }

    /// A container that has at least those of the tensors `names` that exist; their floats are finite.
    pub(crate) fn tensors(&self, names: &[&str]) -> Result<Cow<'_, Container>> {
        match self {
            Self::Lazy(reader) => Ok(Cow::Owned(reader.read(names)?)),
            Self::Whole(c) => {
                names.iter().try_for_each(|name| c.check_finite_tensor(name))?;
                Ok(Cow::Borrowed(c))
            }
        }
    }

    /// Checks that there is a float tensor `name` of this shape, if possible without reading its values.
    pub(super) fn expect(&self, name: &str, shape: &[usize]) -> Result<()> {
        match self {
            Self::Lazy(reader) => reader.expect(name, shape),
            Self::Whole(c) => Ok(c.f32(name, shape).map(|_| ())?),
        }
    }

    /// The whole content. Floats may be NaN or infinite.
    ///
    /// # Errors
    /// [`Error::Format`] when a tensor has an unsupported data type.
    pub fn into_container(self) -> Result<Container> {
        match self {
            Self::Lazy(reader) => reader.read_all(),
            Self::Whole(c) => Ok(c.into_owned()),
        }
    }
}
