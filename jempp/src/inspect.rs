//! What a run, a checkpoint or a model file holds, without running it.

use crate::checkpoint::{self, Container, Tensor};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::infer::FORMAT;
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
    /// The judgement on the test images, if the run came to its end.
    pub metrics: Option<Value>,
    /// Draws that chains may start from.
    pub bank: Option<BankSize>,
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
    let container = checkpoint::load_model(&model)?;
    let format = container.text("format")?;
    if format != FORMAT {
        return Err(Error::Format(format!("{}: format is `{format}`, not `{FORMAT}`", model.display())));
    }
    container.check_finite()?;
    let architecture = serde_json::from_str(container.text("architecture")?)
        .map_err(|e| Error::Format(format!("{}: the architecture is unreadable: {e}", model.display())))?;
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
        architecture,
        parameters: parameters(&container),
        step: number("step"),
        dataset: fact("dataset"),
        dataset_crc32c: fact("dataset_crc32c"),
        class_names: fact("class_names").and_then(|n| serde_json::from_str(&n).ok()).unwrap_or_default(),
        seed: number("seed"),
        bn: fact("bn"),
        jempp_version: fact("jempp_version"),
        metrics: fact("metrics").and_then(|m| serde_json::from_str(&m).ok()),
        bank: bank(&container),
        tensors: container.tensors.iter().map(shape_of).collect(),
        model,
    })
}

/// Values of all tensors that are trained, by the published names of those that are not.
fn parameters(c: &Container) -> u64 {
    let fixed = |name: &str| {
        name.starts_with("init.")
            || name.starts_with("thresholds.")
            || name.ends_with(".running_mean")
            || name.ends_with(".running_var")
    };
    c.tensors.iter().filter(|t| !fixed(&t.name)).map(|t| t.data.len() as u64).sum()
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
