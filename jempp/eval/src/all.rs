//! Everything at once, kept in a folder: numbers as `summary.json`, pictures beside it.
//!
//! Invariant: an evaluation that is interrupted and started again gives the same summary, and does what was finished only
//! once.

use super::attack::{Attack, Curve, Plan};
use super::calibration::Calibration;
use super::fid::Fid;
use super::ood::Detection;
use super::picture;
use super::run::Judge;
use super::samples::{Samples, samples};
use super::{Protocol, Watcher};
use jempp::config::Config;
use jempp::evaluation::{Part, Subject};
use jempp::model::Model;
use jempp::model::thresholds::ThresholdValues;
use jempp::{Error, Result};
use jempp_formats::files::write_atomic;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the folder in a run's folder.
pub const FOLDER: &str = "eval";
/// Name of the file with the numbers.
pub const SUMMARY: &str = "summary.json";

/// What is to be done.
#[derive(Debug)]
pub struct Options<'a> {
    /// Images judged, at most.
    pub n: Option<usize>,
    /// Images attacked, at most.
    pub attacked: usize,
    /// The attacks; none leaves them out.
    pub plans: &'a [Plan],
    /// A model whose adversaries are tried too, and its name.
    pub transfer: Option<(&'a Model, &'a str)>,
    /// Other data sets to be told apart from.
    pub against: &'a [(String, Subject)],
    /// Whether ‖∂log p/∂x‖ is a score too.
    pub gradient: bool,
    /// FID and Inception score, found before, to be kept with the rest.
    pub fid: Option<Fid>,
}

/// All that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Preset of the training, if the model knows it.
    pub preset: Option<String>,
    /// Iterations trained.
    pub step: Option<u64>,
    /// Trained values.
    pub parameters: u64,
    /// What the model was judged on.
    pub protocol: Protocol,
    /// Accuracy and calibration.
    pub calibration: Calibration,
    /// Detection of what is no data.
    pub detection: Detection,
    /// Robustness, one a ball.
    pub attacks: Vec<Curve>,
    /// What it draws; absent where images are no pictures.
    pub samples: Option<Samples>,
    /// FID and Inception score, where weights were supplied.
    #[serde(default)]
    pub fid: Option<Fid>,
    /// What it decides by, if it carries thresholds.
    pub thresholds: Option<ThresholdValues>,
}

/// Judges the model at `path` on the test images of its data, into `folder`.
///
/// # Errors
/// Those of the parts; [`Error::Cancelled`]; [`Error::Io`].
pub fn all(
    (model, path): (&Model, &Path),
    subject: &Subject,
    o: &Options<'_>,
    folder: &Path,
    watch: &mut Watcher<'_>,
) -> Result<Summary> {
    let parts = folder.join("parts");
    let judge = Judge::new(model, subject, Part::Test, (o.n, 0.0), Some(&parts))?;
    let scores = judge.scores(o.gradient, watch)?;
    let calibration = judge.calibration(&scores, subject.bins, watch)?;
    let detection = judge.detection(&scores, o.against, watch)?;
    let config = model.config()?;
    let pictured = matches!(model.network().config.image_size[2], 1 | 3);
    let known = config.as_ref().filter(|_| pictured);
    let samples = known
        .map(|config| kept_samples(&judge, (model, path), config, subject, folder, watch))
        .transpose()?;
    let attacked = o.attacked.min(o.n.unwrap_or(usize::MAX));
    let mut attacks = Vec::new();
    if !o.plans.is_empty() {
        let judge = Judge::new(model, subject, Part::Test, (Some(attacked), 0.0), Some(&parts))?;
        for plan in o.plans {
            attacks.push(judge.attack(&Attack { plan, source: o.transfer }, watch)?);
        }
    }
    let summary = Summary {
        preset: config.map(|c| c.preset),
        step: model.metadata.get("step").and_then(|s| s.parse().ok()),
        parameters: model.network().parameter_count(),
        protocol: judge.protocol().clone(),
        calibration,
        detection,
        attacks,
        samples,
        fid: o.fid.clone(),
        thresholds: model.thresholds().map(|t| t.values.clone()),
    };
    write(&summary, folder)?;
    Ok(summary)
}

/// The samples, made again if one of their pictures is gone.
fn kept_samples(
    judge: &Judge<'_>,
    (model, path): (&Model, &Path),
    config: &Config,
    subject: &Subject,
    folder: &Path,
    watch: &mut Watcher<'_>,
) -> Result<Samples> {
    let make = |watch: &mut Watcher<'_>| samples((model, path), config, subject, folder, watch);
    let kept = judge.part("samples", || make(watch))?;
    if kept.pictures.iter().all(|p| folder.join(&p.file).is_file()) { Ok(kept) } else { make(watch) }
}

fn write(summary: &Summary, folder: &Path) -> Result<()> {
    let put = |name: &str, text: &str| write_atomic(&folder.join(name), |w| w.write_all(text.as_bytes()));
    put("reliability.svg", &picture::reliability(&summary.calibration).svg())?;
    for (i, against) in summary.detection.against.iter().enumerate() {
        put(&format!("histogram-{:02}.svg", i + 1), &picture::histogram(against).svg())?;
    }
    for curve in &summary.attacks {
        put(&format!("attack-{}.svg", curve.plan.norm.name()), &picture::robustness(curve).svg())?;
    }
    let text = serde_json::to_string_pretty(summary).map_err(|e| Error::Internal(e.to_string()))?;
    Ok(put(SUMMARY, &(text + "\n"))?)
}
