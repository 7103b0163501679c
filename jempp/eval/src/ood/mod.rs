//! Out-of-distribution (OOD) detection: how well a model's scores separate its data from other images.

mod histogram;
pub mod ranking;

use crate::cache::Cache;
use crate::estimate::{Estimate, REPLICATES};
use crate::progress::ProgressFn;
use crate::protocol::Protocol;
use crate::scores::{DetectionScore, SetScores, score_images};
pub use histogram::Histogram;
use jempp::Result;
use jempp::model::Model;
use jempp_data::synthetic::EvalImages;
use ranking::{Ranking, Separation};
use serde::{Deserialize, Serialize};

/// How well one score separates the data from one OOD set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreSeparation {
    /// Name of the score.
    pub score: String,
    /// AUROC, FPR95 and AUPR.
    pub separation: Separation<Estimate>,
}

/// Detection of one OOD set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OodSetResult {
    /// Name of the set.
    pub set: String,
    /// Checksum (CRC-32C) of its data set, in hexadecimal; absent for synthetic sets.
    pub crc32c: Option<String>,
    /// Number of its images.
    pub n: usize,
    /// One entry per score.
    pub scores: Vec<ScoreSeparation>,
    /// Distribution of log p(x) on the data and on the set.
    pub histogram: Histogram,
}

/// OOD detection on several sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OodDetection {
    /// The in-distribution images.
    pub protocol: Protocol,
    /// One entry per OOD set.
    #[serde(rename = "against")]
    pub sets: Vec<OodSetResult>,
}

/// A set of OOD images.
#[derive(Clone, Debug)]
pub(crate) struct OodSet<'a> {
    /// Name of the set.
    pub name: String,
    /// The images.
    pub images: EvalImages<'a>,
    /// Checksum (CRC-32C) of their data set, in hexadecimal; absent for synthetic sets.
    pub crc32c: Option<String>,
}

/// Scores the OOD sets and compares them with the scores of the in-distribution images, `inside`.
///
/// # Errors
/// Those of the model and of loading the images; [`jempp::Error::Cancelled`].
pub(crate) fn detect(
    model: &Model,
    protocol: Protocol,
    inside: &SetScores,
    sets: &[OodSet<'_>],
    cache: &Cache,
    progress: &mut ProgressFn<'_>,
) -> Result<OodDetection> {
    let classes = model.network().config.classes;
    let gradient = !inside.gradient_norm.is_empty();
    let mut results = Vec::new();
    for set in sets {
        let cache = cache.with(set.crc32c.as_deref().unwrap_or_default());
        let outside = score_images(model, &set.images, &set.name, gradient, &cache, progress)?;
        let mut scores = Vec::new();
        for s in inside.available() {
            let values = |side: &SetScores| side.detection_score(*s, classes);
            let separation =
                Ranking::new(&values(inside)?, &values(&outside)?)?.bootstrap(REPLICATES, protocol.seed);
            scores.push(ScoreSeparation { score: s.name().to_owned(), separation });
        }
        let density = |side: &SetScores| side.detection_score(DetectionScore::LogDensity, classes);
        results.push(OodSetResult {
            set: set.name.clone(),
            crc32c: set.crc32c.clone(),
            n: outside.count(),
            scores,
            histogram: Histogram::new(&density(inside)?, &density(&outside)?),
        });
    }
    Ok(OodDetection { protocol, sets: results })
}
