//! Predictions for images from files, as `jempp-cli predict` writes them.

use crate::error::Result;
use crate::metrics::{argmax, softmax};
use crate::model::thresholds::Decision;
use crate::model::{Model, Scores};
use jempp_formats::npz::{self, Array};
use std::path::Path;

/// Predictions of n images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// n×classes.
    pub logits: Vec<f32>,
    /// n×classes: p(y | x).
    pub probs: Vec<f32>,
    /// n: unnormalised log p(x).
    pub log_density: Vec<f32>,
    /// n×H×W×C, if requested: ∂log p(x)/∂x, or with labels ∂log p(x, y)/∂x; see [`Model::input_grad`].
    pub input_grad: Option<Vec<f32>>,
    /// n: label and abstention, if the model has thresholds.
    pub decisions: Option<Vec<Decision>>,
}

/// Which gradient with respect to the images to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gradient<'a> {
    /// None.
    No,
    /// That of log p(x).
    LogDensity,
    /// That of log p(x, y) for these labels, one for all images or one each. Without an energy head this is the
    /// gradient of the label's logit f(x)\[y\], with one that of log p(x) + log p(y|x).
    Labels(&'a [i32]),
}

/// Predicts for images N×H×W×C in [−1, 1].
///
/// # Errors
/// [`crate::Error::Data`] when the images have another size than the model's, a value is not finite, or the number or range of
/// labels is wrong.
pub fn predict(model: &Model, images: &[f32], gradient: Gradient<'_>) -> Result<Predictions> {
    let Scores { logits, log_density } = model.scores(images)?;
    let classes = model.network().config.classes;
    let mut p = vec![0.0; classes];
    let mut probs = Vec::with_capacity(logits.len());
    for row in logits.chunks_exact(classes) {
        softmax(row, &mut p);
        probs.extend(p.iter().map(|p| *p as f32));
    }
    let input_grad = match gradient {
        Gradient::No => None,
        Gradient::LogDensity => Some(model.input_grad(images, None)?),
        Gradient::Labels([one]) => Some(model.input_grad(images, Some(&vec![*one; log_density.len()]))?),
        Gradient::Labels(labels) => Some(model.input_grad(images, Some(labels))?),
    };
    let decisions = model.thresholds().map(|t| {
        let rows = logits.chunks_exact(classes).zip(&log_density);
        rows.map(|(row, d)| t.decide(row, *d)).collect()
    });
    Ok(Predictions { logits, probs, log_density, input_grad, decisions })
}

impl Predictions {
    /// Number of images.
    pub fn count(&self) -> usize {
        self.log_density.len()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.logits.len() / self.count().max(1)
    }

    /// The most probable class of image `i` and its probability; `None` if there is no image `i`.
    pub fn label(&self, i: usize) -> Option<(usize, f32)> {
        let row = self.probs.chunks_exact(self.classes().max(1)).nth(i)?;
        let label = argmax(row);
        Some((label, row[label]))
    }

    /// Writes float32 arrays `logits`, `probs`, `log_density` and, if computed, `input_grad` of images of `size`
    /// [H, W, C] to an `.npz` file, replacing an existing one; with decisions also `calibrated`, `ood_p_value` and, as
    /// int64 0 or 1, `abstain`.
    ///
    /// # Errors
    /// Those of [`npz::write`].
    pub fn write_npz(&self, path: &Path, [h, w, c]: [usize; 3]) -> Result<()> {
        let (n, k) = (self.count(), self.classes());
        let (table, line, image) = ([n, k], [n], [n, h, w, c]);
        let mut arrays = vec![
            ("logits", Array::F32(&table, &self.logits)),
            ("probs", Array::F32(&table, &self.probs)),
            ("log_density", Array::F32(&line, &self.log_density)),
        ];
        arrays.extend(self.input_grad.as_ref().map(|g| ("input_grad", Array::F32(&image, g))));
        let each =
            |f: &dyn Fn(&Decision) -> f32| self.decisions.iter().flatten().map(f).collect::<Vec<f32>>();
        let (calibrated, ood) = (each(&|d| d.probability), each(&|d| d.ood_p_value));
        let abstain: Vec<i64> = self.decisions.iter().flatten().map(|d| i64::from(d.abstain)).collect();
        if self.decisions.is_some() {
            arrays.push(("calibrated", Array::F32(&line, &calibrated)));
            arrays.push(("ood_p_value", Array::F32(&line, &ood)));
            arrays.push(("abstain", Array::I64(&line, &abstain)));
        }
        Ok(npz::write(path, &arrays)?)
    }
}
