//! What a run, a checkpoint or a model file holds, without running it.

use crate::checkpoint;
use crate::config::{Config, ModelConfig};
use crate::error::{Error, Result};
use crate::model::source::ModelSource;
use crate::model::{IMAGE_SIZE, REPLAY_BUFFER, architecture};
use crate::network::listing;
use jempp_formats::container::{Container, Tensor};
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// The model's file.
    pub model: PathBuf,
    /// The checkpoint's folder, if the model is part of one.
    pub checkpoint: Option<PathBuf>,
    /// The run's folder, if the path was one.
    pub run: Option<PathBuf>,
    /// Steps of the run's checkpoints.
    pub checkpoints: Vec<u64>,
    /// Shape of the network.
    pub architecture: ModelConfig,
    /// Whether the height and width in it are assumed, because a converted file did not tell.
    pub image_size_assumed: bool,
    /// Trained values.
    pub parameters: u64,
    /// Iterations trained.
    pub step: Option<u64>,
    /// Name of the training data.
    pub dataset: Option<String>,
    /// Their checksum, in hexadecimal.
    pub dataset_crc32c: Option<String>,
    /// Names of the classes; none where they are plain numbers.
    pub class_names: Vec<String>,
    /// Seed of the training.
    pub seed: Option<u64>,
    /// Statistics of batch norm: `recalibrated` or `running`.
    pub bn: Option<String>,
    /// Version of this software that trained it.
    pub jempp_version: Option<String>,
    /// What it was converted from, if it was.
    pub source: Option<String>,
    /// How it was trained: preset, and what was changed in it.
    pub recipe: Option<String>,
    /// The judgement on the test images, if the run came to its end.
    pub metrics: Option<Value>,
    /// Draws that chains may start from.
    pub bank: Option<BankSize>,
    /// Chains of its training in the model's own file, as converted ones have them.
    pub replay_buffer: Option<usize>,
    /// Files of the checkpoint, or the model's file, with their sizes.
    pub files: Vec<FileSize>,
    /// Tensors of the model's file.
    pub tensors: Vec<TensorShape>,
}

/// Size of a bank of draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BankSize {
    /// Draws.
    pub draws: usize,
    /// Classes with a mean.
    pub classes: usize,
}

/// Size of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileSize {
    /// Name in its folder.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
}

/// A tensor as it is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorShape {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: &'static str,
    /// Extents; filters are O×I×H×W, images N×C×H×W.
    pub shape: Vec<usize>,
}

/// Looks at a run folder, a checkpoint folder or a model file. In a checkpoint the checksums are verified.
///
/// # Errors
/// [`Error::Data`] when there is no model; [`Error::Format`] when it is damaged or of another format.
pub fn inspect(path: &Path) -> Result<Inspection> {
    let model = checkpoint::resolve_model(path)?;
    let container = ModelSource::open(&model)?.into_container()?;
    let architecture = architecture(&container)?;
    container.check_finite()?;
    let dir = model.parent().filter(|d| d.join(checkpoint::MANIFEST).is_file()).map(Path::to_path_buf);
    if let Some(dir) = &dir {
        checkpoint::verify(dir)?;
    }
    let root = path.join("ckpt");
    let run = root.is_dir().then(|| path.to_path_buf());
    let checkpoints = checkpoint::steps(&root)?.into_iter().map(|(step, _)| step).collect();
    let fact = |key: &str| container.meta.get(key).cloned();
    let number = |key: &str| fact(key).and_then(|v| v.parse().ok());
    Ok(Inspection {
        files: files(&model, dir.as_deref())?,
        checkpoint: dir,
        run,
        checkpoints,
        parameters: parameters(&container, &architecture)?,
        architecture,
        image_size_assumed: container.meta.contains_key(IMAGE_SIZE),
        step: number("step"),
        dataset: fact("dataset"),
        dataset_crc32c: fact("dataset_crc32c"),
        class_names: fact("class_names").and_then(|n| serde_json::from_str(&n).ok()).unwrap_or_default(),
        seed: number("seed"),
        bn: fact("bn"),
        jempp_version: fact("jempp_version"),
        source: fact("source"),
        recipe: fact("config").and_then(|c| recipe(&c)),
        metrics: fact("metrics").and_then(|m| serde_json::from_str(&m).ok()),
        bank: bank(&container),
        replay_buffer: container.get(REPLAY_BUFFER).and_then(|t| t.shape.first().copied()),
        tensors: container.tensors.iter().map(shape_of).collect(),
        model,
    })
}

/// Values of all tensors that are trained; each must be there.
fn parameters(c: &Container, architecture: &ModelConfig) -> Result<u64> {
    let mut total = 0;
    listing::tensors(architecture, |name, shape| {
        let values = c.f32(&name, shape)?.len() as u64;
        let trained = !name.ends_with(".running_mean") && !name.ends_with(".running_var");
        total += if trained { values } else { 0 };
        Ok(())
    })?;
    Ok(total)
}

/// A configuration as its preset and what differs from it; none where it cannot be read.
fn recipe(config: &str) -> Option<String> {
    let config = Config::from_sources("jempp", Some((config, "the configuration")), &[]).ok()?;
    let changes = config.changes().ok()?;
    Some([vec![format!("preset={}", config.preset)], changes].concat().join(" "))
}

fn bank(c: &Container) -> Option<BankSize> {
    let draws = c.get("init.classes")?.data.len();
    Some(BankSize { draws, classes: c.get("init.means")?.shape.first().copied().unwrap_or(0) })
}

fn shape_of(t: &Tensor) -> TensorShape {
    TensorShape { name: t.name.clone(), dtype: t.data.kind(), shape: t.shape.clone() }
}

fn files(model: &Path, checkpoint: Option<&Path>) -> Result<Vec<FileSize>> {
    let all = match checkpoint {
        Some(dir) => [checkpoint::MODEL, checkpoint::TRAINER, checkpoint::STATE, checkpoint::MANIFEST]
            .map(|name| dir.join(name))
            .to_vec(),
        None => vec![model.to_path_buf()],
    };
    all.into_iter()
        .map(|path| {
            let bytes = std::fs::metadata(&path).map_err(|e| Error::io(&path, e))?.len();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(FileSize { name, bytes })
        })
        .collect()
}
