//! Describing a run, a checkpoint or a model file without running it.

use crate::checkpoint;
use crate::config::{Config, ModelConfig};
use crate::error::{Error, Result};
use crate::model::source::ModelSource;
use crate::model::{IMAGE_SIZE, REPLAY_BUFFER, architecture};
use crate::network::listing;
use crate::paths;
use jempp_formats::container::{Container, Tensor};
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The description of a model and of the files around it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// The model file.
    #[serde(serialize_with = "paths::one")]
    pub model: PathBuf,
    /// The checkpoint folder, if the model is part of a checkpoint.
    #[serde(serialize_with = "paths::optional")]
    pub checkpoint: Option<PathBuf>,
    /// The run folder, if the path is one.
    #[serde(serialize_with = "paths::optional")]
    pub run: Option<PathBuf>,
    /// Steps of the run's checkpoints.
    pub checkpoints: Vec<u64>,
    /// Architecture of the network.
    pub architecture: ModelConfig,
    /// Whether its image height and width are assumed, because the file it was converted from did not contain them.
    pub image_size_assumed: bool,
    /// Number of trainable parameters.
    pub parameters: u64,
    /// Number of training iterations.
    pub step: Option<u64>,
    /// Name of the training data set.
    pub dataset: Option<String>,
    /// CRC-32C of the training data set, in hexadecimal.
    pub dataset_crc32c: Option<String>,
    /// Names of the classes; empty if they only have numbers.
    pub class_names: Vec<String>,
    /// Seed of the training.
    pub seed: Option<u64>,
    /// Batch norm statistics: `recalibrated` or `running`.
    pub bn: Option<String>,
    /// Version of jempp that trained the model.
    pub jempp_version: Option<String>,
    /// What the model was converted from, if it was converted.
    pub source: Option<String>,
    /// The training configuration as a preset and the changes to it.
    pub recipe: Option<String>,
    /// The final evaluation on the test images, if the run has finished.
    pub metrics: Option<Value>,
    /// Start samples for chains.
    #[serde(rename = "bank")]
    pub start_samples: Option<StartSampleCounts>,
    /// Number of images of the replay buffer in the model file itself, as in converted models.
    pub replay_buffer: Option<usize>,
    /// The files of the checkpoint, or the model file, with their sizes.
    pub files: Vec<FileSize>,
    /// The tensors of the model file.
    pub tensors: Vec<TensorShape>,
}

/// Numbers of start samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StartSampleCounts {
    /// Number of draws.
    pub draws: usize,
    /// Number of class means.
    pub classes: usize,
}

/// A file and its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileSize {
    /// File name.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// Name, type and shape of a tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorShape {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: &'static str,
    /// Shape; filters are O×I×H×W, images N×C×H×W.
    pub shape: Vec<usize>,
}

/// Describes a run folder, a checkpoint folder or a model file. The checksums of a checkpoint are verified.
///
/// # Errors
/// [`Error::Data`] when there is no model; [`Error::Format`] when it is damaged or in another format.
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
    let text = |key: &str| container.meta.get(key).cloned();
    let number = |key: &str| text(key).and_then(|v| v.parse().ok());
    Ok(Inspection {
        files: files(&model, dir.as_deref())?,
        checkpoint: dir,
        run,
        checkpoints,
        parameters: parameters(&container, &architecture)?,
        architecture,
        image_size_assumed: container.meta.contains_key(IMAGE_SIZE),
        step: number("step"),
        dataset: text("dataset"),
        dataset_crc32c: text("dataset_crc32c"),
        class_names: text("class_names").and_then(|n| serde_json::from_str(&n).ok()).unwrap_or_default(),
        seed: number("seed"),
        bn: text("bn"),
        jempp_version: text("jempp_version"),
        source: text("source"),
        recipe: text("config").and_then(|c| recipe(&c)),
        metrics: text("metrics").and_then(|m| serde_json::from_str(&m).ok()),
        start_samples: start_samples(&container),
        replay_buffer: container.get(REPLAY_BUFFER).and_then(|t| t.shape.first().copied()),
        tensors: container.tensors.iter().map(shape_of).collect(),
        model,
    })
}

/// Number of trainable parameters; checks that all tensors exist.
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

/// A configuration as its preset and the changes to it; `None` if it cannot be read.
fn recipe(config: &str) -> Option<String> {
    let config = Config::from_sources("jempp", Some((config, "the configuration")), &[]).ok()?;
    let changes = config.changes().ok()?;
    Some([vec![format!("preset={}", config.preset)], changes].concat().join(" "))
}

fn start_samples(c: &Container) -> Option<StartSampleCounts> {
    let draws = c.get("init.classes")?.data.len();
    Some(StartSampleCounts { draws, classes: c.get("init.means")?.shape.first().copied().unwrap_or(0) })
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
