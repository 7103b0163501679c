//! Selective classification, or when to abstain: conformal thresholds fitted on validation images and stored in the
//! model.
//!
//! Invariants: for images exchangeable with the validation images, the prediction set contains the label with
//! probability at least 1 − α, and the out-of-distribution p-value is at most t with probability at most t (split
//! conformal prediction: Vovk et al., 2005; sets as in Sadinle et al., JASA 2019). The temperature is fitted on one
//! half of the validation images and the threshold of the prediction sets on the other, so that the guarantee holds for
//! the calibrated probabilities.

mod abstention;

use super::{Model, Scores};
use crate::error::{Error, Result};
use crate::metrics::{argmax, scaled, softmax};
use crate::temperature::TemperatureFit;
pub use abstention::Abstention;
use jempp_formats::container::{Container, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Default error rate: fraction of prediction sets that miss the label, and of in-distribution images that are
/// rejected.
pub const ALPHA: f64 = 0.05;
/// Coverage below which abstention is worth a warning.
const HEAVY: f64 = 0.5;
/// Name of the tensor of log densities in a model file.
pub(crate) const TENSOR: &str = "thresholds.log_density";
/// Metadata key of the other values.
const KEY: &str = "thresholds";

/// The thresholds by which a model abstains.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// All values but the log densities.
    pub values: ThresholdValues,
    /// log p(x) of all validation images, in ascending order.
    pub log_density: Vec<f32>,
}

/// The scalar values of [`Thresholds`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThresholdValues {
    /// Temperature: softmax of the logits divided by it gives calibrated probabilities.
    pub temperature: f64,
    /// A class is in the prediction set if its calibrated probability is at least this.
    pub probability: f64,
    /// α of the prediction sets.
    pub alpha: f64,
    /// An image whose p-value is below this counts as out of distribution.
    pub ood_alpha: f64,
    /// Number of validation images that temperature and probability threshold were fitted on.
    pub fitted_on: [usize; 2],
    /// CRC-32C of the data set, in hexadecimal.
    pub dataset_crc32c: String,
    /// The fit of the temperature, with the NLL before and after scaling; thresholds of earlier versions lack it.
    #[serde(default)]
    pub fit: Option<TemperatureFit>,
    /// Fraction of these validation images that the model classifies and does not abstain on; thresholds of earlier versions
    /// lack it.
    #[serde(default)]
    pub coverage: Option<f64>,
}

impl ThresholdValues {
    /// What one should know before trusting decisions: a temperature that could not be fitted, or a model that abstains on more
    /// images than it classifies.
    pub fn warnings(&self) -> Vec<String> {
        let rare = self.coverage.filter(|c| *c < HEAVY).map(|c| {
            format!(
                "the model abstains on {:.0} % of the validation images at α = {}: `jempp-cli eval thresholds` shows what other \
                 values of α give, and --alpha chooses one",
                100.0 * (1.0 - c),
                self.alpha
            )
        });
        self.fit.iter().filter_map(|f| f.warning.clone()).chain(rare).collect()
    }
}

/// A model's decision about an image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The most probable class.
    pub label: i32,
    /// Its calibrated probability.
    pub probability: f32,
    /// Unnormalised log p(x).
    pub log_density: f32,
    /// Conformal p-value: estimated fraction of in-distribution images whose log p(x) is at most this image's.
    pub ood_p_value: f32,
    /// Whether the model abstains: the image is out of distribution, or the prediction set is not a single class.
    pub abstain: bool,
}

/// Number of validation images needed to fit thresholds at α.
pub fn least(alpha: f64) -> usize {
    2 * (1.0 / alpha).ceil() as usize
}

impl Thresholds {
    /// Fits thresholds to the scores of labelled validation images, which must be in random order. `alpha` is the error
    /// rate of the prediction sets, `ood_alpha` that of out-of-distribution detection.
    ///
    /// # Errors
    /// [`Error::Data`] when there are too few images for α, or scores are not finite; [`Error::Config`] when an α is
    /// outside (0, 1).
    pub fn fit(
        scores: &Scores,
        (classes, labels): (usize, &[u16]),
        [alpha, ood_alpha]: [f64; 2],
        dataset_crc32c: &str,
    ) -> Result<Self> {
        for a in [alpha, ood_alpha] {
            if !(a > 0.0 && a < 1.0) {
                return Err(Error::Config(format!("α = {a}: must lie between 0 and 1")));
            }
        }
        if labels.len() < least(alpha) {
            let (n, need) = (labels.len(), least(alpha));
            return Err(Error::Data(format!(
                "{n} validation images are too few for thresholds at α = {alpha}: {need} are needed; train with a \
                 larger data.valid_size, or choose a larger α"
            )));
        }
        let half = labels.len() / 2;
        let fit = TemperatureFit::new(&scores.logits[..half * classes], classes, &labels[..half])?;
        let temperature = fit.temperature;
        let rest = scaled(&scores.logits[half * classes..], temperature);
        let mut p = vec![0.0; classes];
        let mut of_label: Vec<f64> = rest
            .chunks_exact(classes)
            .zip(&labels[half..])
            .map(|(row, y)| {
                softmax(row, &mut p);
                p[usize::from(*y)]
            })
            .collect();
        of_label.sort_unstable_by(|a, b| b.total_cmp(a));
        let n = of_label.len();
        let rank = (((n + 1) as f64) * (1.0 - alpha)).ceil() as usize;
        let mut log_density = scores.log_density.clone();
        log_density.sort_unstable_by(f32::total_cmp);
        let values = ThresholdValues {
            temperature,
            probability: of_label[rank.clamp(1, n) - 1],
            alpha,
            ood_alpha,
            fitted_on: [half, n],
            dataset_crc32c: dataset_crc32c.to_owned(),
            fit: Some(fit),
            coverage: None,
        };
        let mut fitted = Self { values, log_density };
        fitted.check().map_err(Error::Data)?;
        fitted.values.coverage = Some(fitted.abstention(scores, (classes, labels))?.coverage);
        Ok(fitted)
    }

    fn check(&self) -> core::result::Result<(), String> {
        let f = &self.values;
        let fraction = |v: f64| (0.0..=1.0).contains(&v);
        let sound = f.temperature.is_finite() && f.temperature > 0.0;
        if !sound || !fraction(f.probability) || !fraction(f.alpha) || !fraction(f.ood_alpha) {
            return Err(format!("invalid thresholds: {f:?}"));
        }
        let d = &self.log_density;
        if d.is_empty() || !d.is_sorted() || d.iter().any(|v| !v.is_finite()) {
            return Err("the log densities of validation images must be finite and ascending".into());
        }
        Ok(())
    }

    /// Conformal p-value of a log density: (1 + number of validation images with log p(x) at most this) / (1 + their
    /// number).
    pub fn p_value(&self, log_density: f32) -> f64 {
        let below = self.log_density.partition_point(|v| *v <= log_density);
        (1 + below) as f64 / (1 + self.log_density.len()) as f64
    }

    /// The prediction set: the classes whose calibrated probability reaches the threshold.
    pub fn prediction_set(&self, logits: &[f32]) -> Vec<usize> {
        let p = self.probabilities(logits);
        (0..p.len()).filter(|k| p[*k] >= self.values.probability).collect()
    }

    fn probabilities(&self, logits: &[f32]) -> Vec<f64> {
        let mut p = vec![0.0; logits.len()];
        softmax(&scaled(logits, self.values.temperature), &mut p);
        p
    }

    /// Classifies an image with these logits and this log density, or abstains.
    pub fn decide(&self, logits: &[f32], log_density: f32) -> Decision {
        let p = self.probabilities(logits);
        let label = argmax(logits);
        let ood = self.p_value(log_density);
        let alone = p.iter().filter(|p| **p >= self.values.probability).count() == 1;
        Decision {
            label: label as i32,
            probability: p[label] as f32,
            log_density,
            ood_p_value: ood as f32,
            abstain: ood < self.values.ood_alpha || !alone,
        }
    }

    /// Adds the thresholds to the content of a model file.
    pub(crate) fn write(&self, c: &mut Container) -> Result<()> {
        let text = serde_json::to_string(&self.values).map_err(|e| Error::Internal(e.to_string()))?;
        c.tensors.push(Tensor::f32(TENSOR, [self.log_density.len()], self.log_density.clone()));
        c.meta.insert(KEY.to_owned(), text);
        Ok(())
    }

    /// Reads the thresholds from the metadata and tensors of a model file, if it has any.
    pub(crate) fn read(metadata: &BTreeMap<String, String>, tensors: &Container) -> Result<Option<Self>> {
        let Some(text) = metadata.get(KEY) else { return Ok(None) };
        let wrong = |why: String| tensors.wrong(why);
        let values =
            serde_json::from_str(text).map_err(|e| wrong(format!("its thresholds are not readable: {e}")))?;
        let n = tensors.tensor(TENSOR)?.data.len();
        let read = Self { values, log_density: tensors.f32(TENSOR, &[n])?.to_vec() };
        read.check().map_err(wrong)?;
        Ok(Some(read))
    }
}

impl Model {
    /// Classifies images N×H×W×C in [−1, 1]: label, calibrated probability, and whether to abstain.
    ///
    /// # Errors
    /// [`Error::Format`] if the model has no thresholds; those of [`Model::scores`].
    pub fn decide(&self, images: &[f32]) -> Result<Vec<Decision>> {
        let thresholds = self.thresholds().ok_or_else(|| {
            Error::Format(
                "the model carries no thresholds to decide by; `jempp-cli eval thresholds` fits them to validation images"
                    .into(),
            )
        })?;
        let scores = self.scores(images)?;
        let rows = scores.logits.chunks_exact(self.network().config.classes);
        Ok(rows.zip(&scores.log_density).map(|(row, d)| thresholds.decide(row, *d)).collect())
    }
}

#[cfg(test)]
mod tests;
