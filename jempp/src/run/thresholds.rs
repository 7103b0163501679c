//! Decision thresholds: fitted on the validation images of a run, and stored in its last checkpoint.

use super::Folder;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::model::thresholds::{TENSOR, Thresholds};
use crate::model::{Model, Scores};
use jempp_data::{Dataset, plain_batch};
use std::path::{Path, PathBuf};

/// Images scored between two calls of `progress`.
const STEP: usize = 64;

/// Scores of labelled images.
#[derive(Clone, Debug, Default)]
pub struct Scored {
    /// The scores.
    pub scores: Scores,
    /// The labels.
    pub labels: Vec<u16>,
}

/// Scores the images `indices` of `set`. `progress` receives the images scored and the images in total; when it returns false,
/// the work ends with [`Error::Cancelled`].
///
/// # Errors
/// [`Error::Cancelled`]; the errors of [`Model::scores`].
pub fn score(
    model: &Model,
    (set, indices): (&Dataset, &[u32]),
    progress: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Scored> {
    let n = indices.len();
    let (mut scores, mut images) = (Scores::default(), Vec::new());
    for (k, part) in indices.chunks(STEP).enumerate() {
        if !progress(k * STEP, n) {
            return Err(Error::Cancelled);
        }
        images.resize(part.len() * set.pixels(), 0.0);
        plain_batch(set, part, &mut images)?;
        scores.append(model.scores(&images)?);
    }
    progress(n, n);
    let mut labels = vec![0; n];
    set.labels_of(indices, &mut labels)?;
    Ok(Scored { scores, labels })
}

/// Fits decision thresholds to the scores of validation images of `set`, which were not trained on.
///
/// # Errors
/// [`Error::Data`] if there are too few images.
pub fn fit(model: &Model, set: &Dataset, valid: &Scored, alphas: [f64; 2]) -> Result<Thresholds> {
    if valid.labels.is_empty() {
        return Err(Error::Data(format!(
            "data set `{}` was split without validation images, which thresholds are fitted on; train with \
             data.valid_size=N",
            set.name()
        )));
    }
    let crc = format!("{:08x}", set.crc32c());
    Thresholds::fit(&valid.scores, (model.network().config.classes, &valid.labels), alphas, &crc)
}

/// Fits decision thresholds on n labelled images N×H×W×C in [−1, 1], which the model was not trained on, in random order.
/// `alphas` are the error rates of the prediction sets and of out-of-distribution detection. `progress` is that of
/// [`Model::scores_with`].
///
/// # Errors
/// [`Error::Data`] if there is not one label per image, a label is out of range, or there are too few images;
/// [`Error::Config`] if a rate is outside (0, 1); [`Error::Cancelled`]; the errors of [`Model::scores`].
pub fn fit_to_images(
    model: &Model,
    (images, labels): (&[f32], &[u16]),
    alphas: [f64; 2],
    progress: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Thresholds> {
    let classes = model.network().config.classes;
    let n = images.len() / model.network().pixels();
    if labels.len() != n || labels.iter().any(|l| usize::from(*l) >= classes) {
        return Err(Error::Data(format!("needs {n} labels below {classes}")));
    }
    let scores = model.scores_with(images, progress)?;
    let crc = images.iter().fold(0, |crc, v| crc32c::crc32c_append(crc, &v.to_le_bytes()));
    Thresholds::fit(&scores, (classes, labels), alphas, &format!("{crc:08x}"))
}

/// Stores thresholds in the model of a run's last checkpoint, which is rewritten; returns the checkpoint's folder.
///
/// # Errors
/// [`Error::Data`] if another process trains into the folder, or there is no checkpoint; [`Error::Format`] if the last
/// checkpoint is damaged; [`Error::Io`].
pub fn store(run: &Path, thresholds: &Thresholds) -> Result<PathBuf> {
    let _lock = Folder::open(run)?;
    let root = run.join("ckpt");
    let mut c = checkpoint::load(&root.join("last"))?;
    c.model.tensors.retain(|t| t.name != TENSOR);
    thresholds.write(&mut c.model)?;
    checkpoint::save(&root, c.step, &c.model, &c.trainer, &c.state, false, usize::MAX)
}
