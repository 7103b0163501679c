//! Models from one kind of file to another.
//!
//! Invariant: a conversion goes by the content of a model's file, so what the network does not use (the unused head of a
//! published model, its replay buffer) is kept where the other kind has a place for it.

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::evaluation::{EvalData, SplitPart};
use crate::interop::onnx::{self, BatchNorm};
use crate::interop::torch::{self, Hints};
use crate::model::{Bank, Model, REPLAY_BUFFER};
use crate::train::recalibrate;
use engine::Device;
use jempp_formats::container::{Container, Tensor, layout};
use jempp_formats::files;
use std::path::Path;

/// Images of a batch of recalibration.
const BATCH: usize = 64;
/// Draws that a model gets out of class means and covariances, at most; fewer than one a class are none.
const DRAWS: usize = 400;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This program's own, which any reader of safetensors reads.
    Safetensors,
    /// A checkpoint as published, for PyTorch.
    Torch,
    /// A graph for runtimes such as onnxruntime.
    Onnx,
}

impl Kind {
    /// The kind that a file's name ends in.
    ///
    /// # Errors
    /// [`Error::Config`] when it is none, with those that there are.
    pub fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("pt" | "pth") => Ok(Self::Torch),
            Some("onnx") => Ok(Self::Onnx),
            _ => Err(Error::Config(format!(
                "{}: its name does not say what it is to be; let it end in .safetensors, .pt or .onnx, or name one with --to",
                path.display()
            ))),
        }
    }
}

/// Reads the model that `path` stands for; `hints` help with what a published checkpoint does not say.
///
/// # Errors
/// Those of [`checkpoint::load_model`] and [`torch::model`].
pub fn read(path: &Path, hints: Hints) -> Result<Container> {
    let file = checkpoint::resolve_model(path)?;
    if hints == Hints::default() {
        return checkpoint::load_model(&file);
    }
    let bytes = std::fs::read(&file).map_err(|e| Error::io(&file, e))?;
    if !jempp_formats::torch::is_torch(&bytes) {
        return Err(Error::Config(format!(
            "{}: it says itself what it is; --norm and --image-size are for published checkpoints",
            file.display()
        )));
    }
    torch::model(&bytes, &file, hints)
}

/// Gives `container` the replay buffer of the checkpoint that `path` stands for, if it has none and there is one.
///
/// # Errors
/// [`Error::Format`] when the checkpoint is damaged.
pub fn add_buffer(container: &mut Container, path: &Path) -> Result<()> {
    if container.get(REPLAY_BUFFER).is_some() {
        return Ok(());
    }
    match checkpoint::load_trainer(path) {
        Ok(trainer) => container.tensors.extend(trainer.get(REPLAY_BUFFER).cloned()),
        // A model alone has none.
        Err(Error::Data(_)) => {}
        Err(e) => return Err(e),
    }
    Ok(())
}

/// Replaces the statistics of batch norm by those of the training images of `dataset`; gives the number of images.
///
/// # Errors
/// [`Error::Data`] when there are no such data, they do not fit, or are fewer than a batch.
pub fn recalibrate(container: &mut Container, device: &Device, dataset: &str) -> Result<usize> {
    let model = Model::from_container(device, container)?;
    let data = EvalData::for_model(&model, Some(dataset), None)?;
    let train = data.part(SplitPart::Train)?;
    let network = model.network();
    let found = recalibrate::statistics(device, network, model.state(), &data.set, train, BATCH, 0)?;
    for (norm, (mean, var)) in network.norms.iter().zip(found) {
        put(container, Tensor::f32(format!("{}.running_mean", norm.name), [mean.len()], mean));
        put(container, Tensor::f32(format!("{}.running_var", norm.name), [var.len()], var));
    }
    if !network.norms.is_empty() {
        container.meta.insert("bn".into(), "recalibrated".into());
    }
    Ok(train.len() / BATCH * BATCH)
}

/// Gives the model draws for chains to start from, made of the published class means and covariances in two files.
///
/// # Errors
/// Those of [`torch::moments`] and [`torch::Moments::bank`].
pub fn add_bank(container: &mut Container, mean: &Path, covariance: &Path, seed: u64) -> Result<()> {
    let config = crate::model::architecture(container)?;
    let read = |path: &Path| std::fs::read(path).map_err(|e| files::missing_or(path, e));
    let (mean_bytes, covariance_bytes) = (read(mean)?, read(covariance)?);
    let moments = torch::moments((&mean_bytes, mean), (&covariance_bytes, covariance))?;
    drop((mean_bytes, covariance_bytes));
    let each = (DRAWS / config.classes).max(1);
    let Bank { means, draws, classes } = moments.bank(config.image_size, config.classes, each, seed)?;
    let [h, w, c] = config.image_size;
    let images = |name: &str, values: &[f32]| -> Result<Tensor> {
        let n = values.len() / (h * w * c);
        Ok(Tensor::f32(name, [n, c, h, w], layout::images_to_disk([n, h, w, c], values)?))
    };
    put(container, images("init.means", &means)?);
    put(container, images("init.draws", &draws)?);
    put(container, Tensor::i32("init.classes", [classes.len()], classes));
    Ok(())
}

/// Adds a tensor, in place of one of its name.
fn put(container: &mut Container, tensor: Tensor) {
    match container.tensors.iter_mut().find(|t| t.name == tensor.name) {
        Some(place) => *place = tensor,
        None => container.tensors.push(tensor),
    }
}

/// Writes the model to `path`, replacing a file that is there. Values that are not finite are refused.
///
/// # Errors
/// [`Error::Format`] when `container` is no whole model; [`Error::Io`]; those of [`onnx::write`].
pub fn write(container: &Container, path: &Path, kind: Kind, bn: BatchNorm, device: &Device) -> Result<()> {
    // Made in any case, so that what is written is known to be a model.
    let model = Model::from_container(device, container)?;
    match kind {
        Kind::Safetensors => Ok(container.write(path)?),
        Kind::Torch => torch::write(path, container),
        Kind::Onnx => onnx::write(path, &model, bn),
    }
}
