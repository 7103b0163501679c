//! Converting a model from one file format to another.
//!
//! Invariant: a conversion starts from the content of a model file, so what the network does not use (the unused head
//! of a published model, its replay buffer) is kept where the other format has a place for it.

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::evaluation::{EvalData, SplitPart};
use crate::interop::onnx::{self, BatchNorm};
use crate::interop::torch;
use crate::model::published::{Hints, Variant};
use crate::model::source::ModelSource;
use crate::model::{Model, REPLAY_BUFFER};
use crate::train::recalibrate;
use engine::Device;
use jempp_formats::container::{Container, Tensor};
use jempp_formats::files;
use std::path::Path;

/// Images per batch when batch norm is recalibrated.
const BATCH: usize = 64;
/// Most start samples drawn from class means and covariances, unless there are more classes: each has at least one.
const START_SAMPLES: usize = 400;

/// The file format of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelFormat {
    /// jempp's own: a safetensors file.
    Safetensors,
    /// A PyTorch checkpoint like the published ones.
    Torch,
    /// An ONNX graph, for runtimes such as onnxruntime.
    Onnx,
}

impl ModelFormat {
    /// The format that the extension of a file's name stands for.
    ///
    /// # Errors
    /// [`Error::Config`] for any other extension, listing those that are known.
    pub fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("pt" | "pth") => Ok(Self::Torch),
            Some("onnx") => Ok(Self::Onnx),
            _ => Err(Error::Config(format!(
                "{}: the file name does not say which format to write; let it end in .safetensors, .pt or .onnx, or \
                 choose one with --to",
                path.display()
            ))),
        }
    }
}

/// Reads the model that `path` stands for; `hints` supply what a published PyTorch checkpoint does not say.
///
/// # Errors
/// Those of [`ModelSource::open`]; [`Error::Config`] for hints about a safetensors file, which needs none.
pub fn read(path: &Path, hints: Hints) -> Result<Container> {
    ModelSource::open_with(path, hints)?.into_container()
}

/// Adds the replay buffer of the checkpoint that `path` stands for, if there is one and `container` has none yet.
///
/// # Errors
/// [`Error::Format`] when the checkpoint is damaged.
pub fn add_replay_buffer(container: &mut Container, path: &Path) -> Result<()> {
    if container.get(REPLAY_BUFFER).is_some() {
        return Ok(());
    }
    match checkpoint::load_trainer(path) {
        Ok(trainer) => container.tensors.extend(trainer.get(REPLAY_BUFFER).cloned()),
        // A model file outside a checkpoint has no replay buffer.
        Err(Error::Data(_)) => {}
        Err(e) => return Err(e),
    }
    Ok(())
}

/// Replaces the batch norm statistics by those of the training images of `dataset`; returns the number of images used.
///
/// # Errors
/// [`Error::Data`] when the data set is not found, does not match the model, or is smaller than a batch.
pub fn recalibrate(container: &mut Container, device: &Device, dataset: &str) -> Result<usize> {
    let model = Model::from_container(device, container)?;
    let data = EvalData::images_for(&model, dataset)?;
    let train = data.part(SplitPart::Train)?;
    let network = model.network();
    let found = recalibrate::statistics(device, network, model.state(), &data.set, train, BATCH, 0)?;
    for (norm, (mean, var)) in network.norms.iter().zip(found) {
        replace(container, Tensor::f32(format!("{}.running_mean", norm.name), [mean.len()], mean));
        replace(container, Tensor::f32(format!("{}.running_var", norm.name), [var.len()], var));
    }
    if !network.norms.is_empty() {
        container.meta.insert("bn".into(), "recalibrated".into());
    }
    Ok(train.len() / BATCH * BATCH)
}

/// Adds start samples, drawn from the published class means and covariances in two files.
///
/// # Errors
/// Those of [`torch::moments`] and [`torch::Moments::start_samples`].
pub fn add_start_samples(container: &mut Container, mean: &Path, covariance: &Path, seed: u64) -> Result<()> {
    let config = crate::model::architecture(container)?;
    let read = |path: &Path| std::fs::read(path).map_err(|e| files::missing_or(path, e));
    let (mean_bytes, covariance_bytes) = (read(mean)?, read(covariance)?);
    let moments = torch::moments((&mean_bytes, mean), (&covariance_bytes, covariance))?;
    drop((mean_bytes, covariance_bytes));
    let each = (START_SAMPLES / config.classes).max(1);
    let samples = moments.start_samples(config.image_size, config.classes, each, seed)?;
    samples.to_tensors(config.image_size)?.into_iter().for_each(|t| replace(container, t));
    Ok(())
}

/// Adds a tensor, replacing one of the same name.
fn replace(container: &mut Container, tensor: Tensor) {
    match container.tensors.iter_mut().find(|t| t.name == tensor.name) {
        Some(place) => *place = tensor,
        None => container.tensors.push(tensor),
    }
}

/// Writes the model to `path`, replacing an existing file; a PyTorch checkpoint is for the network class `variant`, see
/// [`torch::write`]. Values that are not finite are refused.
///
/// # Errors
/// [`Error::Format`] when `container` is not a complete model; [`Error::Io`]; those of [`onnx::write`].
pub fn write(
    container: &Container,
    path: &Path,
    format: ModelFormat,
    (bn, variant): (BatchNorm, Option<Variant>),
    device: &Device,
) -> Result<()> {
    // Built for every format, so that only complete models are written.
    let model = Model::from_container(device, container)?;
    match format {
        ModelFormat::Safetensors => Ok(container.write(path)?),
        ModelFormat::Torch => torch::write(path, container, variant),
        ModelFormat::Onnx => onnx::write(path, &model, bn),
    }
}
