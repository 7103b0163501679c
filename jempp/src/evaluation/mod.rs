//! Evaluation at the end of a training run: accuracy, calibration, and out-of-distribution detection of two synthetic sets.
//!
//! The crate `jempp-eval` builds on these functions and adds confidence intervals, more outlier sets, attacks, FID and reports.

mod data;

use crate::error::Result;
use crate::metrics::{LabelledLogits, auroc};
use crate::model::{Model, Scores};
pub use data::{EvalData, SplitPart};
use jempp_data::synthetic::{EvalImages, ImageKind};
use jempp_data::{Dataset, plain_batch};
use serde::{Deserialize, Serialize};

/// Images that are loaded and scored at a time, to bound memory.
const PORTION: usize = 512;
/// The synthetic outlier sets of [`evaluate`].
const OUTLIERS: [ImageKind; 2] = [ImageKind::Shuffled, ImageKind::Uniform];

/// Accuracy and calibration of a classifier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassificationMetrics {
    /// Number of images.
    pub n: usize,
    /// Fraction classified correctly.
    pub accuracy: f64,
    /// Expected calibration error over `ece_bins` bins.
    pub ece: f64,
    /// Number of bins of the calibration error.
    pub ece_bins: usize,
    /// Negative log-likelihood: mean −log p(label), in nats.
    pub nll: f64,
    /// Brier score, in [0, 2].
    pub brier: f64,
}

impl ClassificationMetrics {
    /// Computes the metrics from the logits in `scores`, n×`classes`, and n labels; the calibration error is computed
    /// over `bins` bins.
    ///
    /// # Errors
    /// Those of [`LabelledLogits::new`], or if `bins` is 0.
    pub fn new(scores: &Scores, classes: usize, labels: &[u16], bins: usize) -> Result<Self> {
        let p = LabelledLogits::new(&scores.logits, classes, labels)?;
        Ok(Self {
            n: labels.len(),
            accuracy: p.accuracy(),
            ece: p.ece(bins)?,
            ece_bins: bins,
            nll: p.nll(),
            brier: p.brier(),
        })
    }
}

/// How well two scores separate in-distribution images from one set of outliers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutlierAuroc {
    /// Name of the outlier set.
    pub against: String,
    /// AUROC of log p(x).
    pub auroc_log_density: f64,
    /// AUROC of max p(y|x).
    pub auroc_max_probability: f64,
}

impl OutlierAuroc {
    /// Computes both AUROCs from the scores of in-distribution images and of outliers, under a model of `classes`
    /// classes.
    ///
    /// # Errors
    /// If either set is empty or a score is not finite.
    pub fn new(against: &str, inside: &Scores, outside: &Scores, classes: usize) -> Result<Self> {
        let max_probability = |s: &Scores| max_probability(&s.logits, classes);
        Ok(Self {
            against: against.to_owned(),
            auroc_log_density: auroc(&log_density(inside), &log_density(outside))?,
            auroc_max_probability: auroc(&max_probability(inside)?, &max_probability(outside)?)?,
        })
    }
}

/// What a training run reports about its model at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Accuracy and calibration.
    pub classification: ClassificationMetrics,
    /// Out-of-distribution detection of shuffled pixels and of uniform noise, in this order.
    pub detection: Vec<OutlierAuroc>,
}

/// Evaluates a model on the images `indices` of `set`. `bins` is the number of bins of the calibration error; `seed` is that
/// of the synthetic outlier sets, which have as many images.
///
/// # Errors
/// [`crate::Error::Data`] if there are no images or they do not fit the model.
pub fn evaluate(model: &Model, set: &Dataset, indices: &[u32], bins: usize, seed: u64) -> Result<Evaluation> {
    let classes = model.network().config.classes;
    let score = |kind| score_images(model, &EvalImages::new(set, indices, kind, seed, 0.0)?);
    let inside = score(ImageKind::Plain)?;
    let mut labels = vec![0; indices.len()];
    set.labels_of(indices, &mut labels)?;
    let classification = ClassificationMetrics::new(&inside, classes, &labels, bins)?;
    let auroc = |kind: ImageKind| OutlierAuroc::new(kind.name(), &inside, &score(kind)?, classes);
    let detection = OUTLIERS.into_iter().map(auroc).collect::<Result<_>>()?;
    Ok(Evaluation { classification, detection })
}

/// Scores all images, a bounded number at a time.
fn score_images(model: &Model, images: &EvalImages<'_>) -> Result<Scores> {
    let mut all = Scores::default();
    for start in (0..images.len()).step_by(PORTION) {
        let end = (start + PORTION).min(images.len());
        all.append(model.scores(&images.load(start..end)?)?);
    }
    Ok(all)
}

/// The images `indices` of `set`, N×H×W×C in [−1, 1].
///
/// # Errors
/// If an index is out of range.
pub fn images(set: &Dataset, indices: &[u32]) -> Result<Vec<f32>> {
    let mut out = vec![0.0; indices.len() * set.pixels()];
    plain_batch(set, indices, &mut out)?;
    Ok(out)
}

/// Unnormalised log p(x) of each image, in float64.
pub fn log_density(scores: &Scores) -> Vec<f64> {
    scores.log_density.iter().map(|v| f64::from(*v)).collect()
}

/// max p(y|x) of each image, from logits n×`classes`.
///
/// # Errors
/// If there are no logits or one is not finite.
pub fn max_probability(logits: &[f32], classes: usize) -> Result<Vec<f64>> {
    let labels = vec![0; logits.len() / classes.max(1)];
    Ok(LabelledLogits::new(logits, classes, &labels)?.confidences())
}
