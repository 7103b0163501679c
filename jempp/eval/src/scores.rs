//! A model's scores of many images, of which a bounded number is in memory at a time.

use crate::cache::Cache;
use crate::progress::{ProgressFn, report_progress};
use jempp::Result;
use jempp::evaluation::{log_density, max_probability};
use jempp::model::{Model, Scores};
use jempp_data::synthetic::EvalImages;
use serde::{Deserialize, Serialize};

/// Images whose scores are kept in one file of the cache.
const PORTION: usize = 512;
/// Images between two calls of the progress callback.
const STEP: usize = 64;

/// A model's scores of n images, with the norm of the input gradient if it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SetScores {
    /// Logits and unnormalised log p(x).
    #[serde(flatten)]
    pub scores: Scores,
    /// n: ‖∂log p(x)/∂x‖₂ for pixels in [−1, 1]; empty if not asked for.
    #[serde(rename = "gradient")]
    pub gradient_norm: Vec<f32>,
}

/// A score for out-of-distribution detection; all are high on in-distribution images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetectionScore {
    /// log p(x).
    LogDensity,
    /// max p(y|x).
    MaxProbability,
    /// −‖∂log p(x)/∂x‖₂: the approximate mass score of JEM.
    GradientNorm,
}

impl DetectionScore {
    /// Its name in tables and result files.
    pub fn name(self) -> &'static str {
        match self {
            Self::LogDensity => "log p(x)",
            Self::MaxProbability => "max p(y|x)",
            Self::GradientNorm => "−‖∂log p/∂x‖",
        }
    }
}

impl SetScores {
    /// Number of images.
    pub(crate) fn count(&self) -> usize {
        self.scores.log_density.len()
    }

    /// The detection scores that can be computed.
    pub(crate) fn available(&self) -> &'static [DetectionScore] {
        use DetectionScore::{GradientNorm, LogDensity, MaxProbability};
        match self.gradient_norm.is_empty() {
            false => &[LogDensity, MaxProbability, GradientNorm],
            true => &[LogDensity, MaxProbability],
        }
    }

    /// One detection score of each image, under a model of `classes` classes.
    ///
    /// # Errors
    /// If a logit is not finite.
    pub(crate) fn detection_score(&self, score: DetectionScore, classes: usize) -> Result<Vec<f64>> {
        match score {
            DetectionScore::LogDensity => Ok(log_density(&self.scores)),
            DetectionScore::GradientNorm => Ok(self.gradient_norm.iter().map(|v| -f64::from(*v)).collect()),
            DetectionScore::MaxProbability => max_probability(&self.scores.logits, classes),
        }
    }

    fn append(&mut self, more: Self) {
        self.scores.append(more.scores);
        self.gradient_norm.extend(more.gradient_norm);
    }
}

/// Scores images, with the norm of the input gradient if `gradient` is true. `name` is what they are called in progress
/// messages and, in the cache, in names of files.
///
/// # Errors
/// Those of the model and of loading the images; [`jempp::Error::Cancelled`].
pub(crate) fn score_images(
    model: &Model,
    images: &EvalImages<'_>,
    name: &str,
    gradient: bool,
    cache: &Cache,
    progress: &mut ProgressFn<'_>,
) -> Result<SetScores> {
    let n = images.len();
    let mut all = SetScores::default();
    let stage = format!("scoring {name}");
    let file: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let cache = cache.with(&format!("{n} images, {}", if gradient { "gradient" } else { "no gradient" }));
    for (k, start) in (0..n).step_by(PORTION).enumerate() {
        let end = (start + PORTION).min(n);
        let portion = cache.part(&format!("scores-{file}-{k:04}"), || {
            let mut portion = SetScores::default();
            for from in (start..end).step_by(STEP) {
                report_progress(progress, &stage, from, n)?;
                portion.append(score_batch(model, &images.load(from..(from + STEP).min(end))?, gradient)?);
            }
            Ok(portion)
        })?;
        all.append(portion);
        report_progress(progress, &stage, end, n)?;
    }
    Ok(all)
}

fn score_batch(model: &Model, images: &[f32], gradient: bool) -> Result<SetScores> {
    if !gradient {
        return Ok(SetScores { scores: model.scores(images)?, gradient_norm: Vec::new() });
    }
    let (scores, gradients) = model.scores_and_grad(images)?;
    let norm = |g: &[f32]| g.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() as f32;
    let gradient_norm = gradients.chunks_exact(model.network().pixels()).map(norm).collect();
    Ok(SetScores { scores, gradient_norm })
}
