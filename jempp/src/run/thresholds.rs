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

/// Fits decision thresholds on the images `valid` of `set`, which were not trained on. `progress` receives the images scored
/// and the images in total; when it returns false, the work ends with [`Error::Cancelled`].
///
/// # Errors
/// [`Error::Data`] if there are too few images; [`Error::Cancelled`]; the errors of [`Model::scores`].
pub fn fit(
    model: &Model,
    (set, valid): (&Dataset, &[u32]),
    alphas: [f64; 2],
    progress: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Thresholds> {
    let n = valid.len();
    if n == 0 {
        return Err(Error::Data(format!(
            "data set `{}` was split without validation images, which thresholds are fitted on; train with \
             data.valid_size=N",
            set.name()
        )));
    }
    let (mut scores, mut images) = (Scores::default(), Vec::new());
    for (k, indices) in valid.chunks(STEP).enumerate() {
        if !progress(k * STEP, n) {
            return Err(Error::Cancelled);
        }
        images.resize(indices.len() * set.pixels(), 0.0);
        plain_batch(set, indices, &mut images)?;
        let part = model.scores(&images)?;
        scores.logits.extend(part.logits);
        scores.log_density.extend(part.log_density);
    }
    progress(n, n);
    let mut labels = vec![0; n];
    set.labels_of(valid, &mut labels)?;
    let crc = format!("{:08x}", set.crc32c());
    Thresholds::fit(&scores, (model.network().config.classes, &labels), alphas, &crc)
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
