//! A model's scores of many images, a portion at a time.

use super::cache::Cache;
use super::{Watcher, tell};
use jempp::Result;
use jempp::evaluation::confidence;
use jempp::model::{Model, Scores};
use jempp_data::synthetic::Images;
use serde::{Deserialize, Serialize};

/// Images of a portion: scored, and kept, together.
const PORTION: usize = 512;
/// Images between looks at the watcher.
const STEP: usize = 64;

/// What a model says about n images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// n×classes.
    pub logits: Vec<f32>,
    /// n: unnormalised log p(x).
    pub log_density: Vec<f32>,
    /// n: ‖∂log p(x)/∂x‖₂, x in [−1, 1]; empty if not asked for.
    pub gradient: Vec<f32>,
}

/// A score that is high on data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// log p(x).
    LogDensity,
    /// max p(y|x).
    MaxProbability,
    /// −‖∂log p(x)/∂x‖₂ (JEM's approximate mass).
    Gradient,
}

impl Score {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::LogDensity => "log p(x)",
            Self::MaxProbability => "max p(y|x)",
            Self::Gradient => "−‖∂log p/∂x‖",
        }
    }
}

impl Scored {
    /// Number of images.
    pub fn count(&self) -> usize {
        self.log_density.len()
    }

    /// One value an image; of a model of so many classes.
    ///
    /// # Errors
    /// If a logit is not finite.
    pub fn score(&self, score: Score, classes: usize) -> Result<Vec<f64>> {
        match score {
            Score::LogDensity => Ok(self.log_density.iter().map(|v| f64::from(*v)).collect()),
            Score::Gradient => Ok(self.gradient.iter().map(|v| -f64::from(*v)).collect()),
            Score::MaxProbability => {
                let (logits, log_density) = (self.logits.clone(), self.log_density.clone());
                confidence(&Scores { logits, log_density }, classes)
            }
        }
    }
}

/// Scores images; `name` says which in messages and in the names of parts.
///
/// # Errors
/// Those of the model and of the images; [`jempp::Error::Cancelled`].
pub fn score(
    model: &Model,
    images: &Images<'_>,
    name: &str,
    gradient: bool,
    cache: &Cache,
    watch: &mut Watcher<'_>,
) -> Result<Scored> {
    let (n, px) = (images.len(), model.network().pixels());
    let mut all = Scored::default();
    let what = format!("scoring {name}");
    let file: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let cache = cache.with(if gradient { "gradient" } else { "no gradient" });
    for (k, start) in (0..n).step_by(PORTION).enumerate() {
        let end = (start + PORTION).min(n);
        let part = cache.part(&format!("scores-{file}-{k:04}"), || {
            let mut part = Scored::default();
            for from in (start..end).step_by(STEP) {
                tell(watch, &what, from, n)?;
                let x = images.load(from..(from + STEP).min(end))?;
                let scores = if gradient {
                    let (scores, g) = model.scores_and_grad(&x)?;
                    let norm = |g: &[f32]| g.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() as f32;
                    part.gradient.extend(g.chunks_exact(px).map(norm));
                    scores
                } else {
                    model.scores(&x)?
                };
                part.logits.extend(scores.logits);
                part.log_density.extend(scores.log_density);
            }
            Ok(part)
        })?;
        all.logits.extend(part.logits);
        all.log_density.extend(part.log_density);
        all.gradient.extend(part.gradient);
        tell(watch, &what, end, n)?;
    }
    Ok(all)
}
