//! All evaluations into one folder: the numbers in `summary.json`, with charts and sample grids beside it.
//!
//! Invariant: an evaluation that is interrupted and started again gives the same summary, and does not repeat finished parts.

use crate::attack::{Attack, AttackPlan, RobustnessCurve};
use crate::calibration::Calibration;
use crate::evaluator::Evaluator;
use crate::fid::Fid;
use crate::figures;
use crate::ood::OodDetection;
use crate::progress::ProgressFn;
use crate::protocol::Protocol;
use crate::samples::{SampleDiagnostics, diagnose_samples};
use jempp::config::Config;
use jempp::evaluation::{EvalData, SplitPart};
use jempp::model::Model;
use jempp::model::thresholds::{Abstention, ThresholdValues};
use jempp::{Error, Result};
use jempp_formats::files::write_atomic;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the results folder in a run folder.
pub const FOLDER: &str = "eval";
/// Name of the file with the numbers.
pub const SUMMARY: &str = "summary.json";

/// Options of [`evaluate_all`].
#[derive(Debug)]
pub struct Options<'a> {
    /// Number of test images to evaluate; `None` for all.
    pub n: Option<usize>,
    /// Number of test images to attack, at most.
    pub attack_n: usize,
    /// The attacks; empty for none.
    pub plans: &'a [AttackPlan],
    /// A surrogate model whose adversarial examples are tried too, and its name.
    pub surrogate: Option<(&'a Model, &'a str)>,
    /// Other data sets to detect as out-of-distribution, by name.
    pub ood_sets: &'a [(String, EvalData)],
    /// Whether −‖∂log p/∂x‖ is one of the detection scores.
    pub gradient: bool,
    /// FID and Inception score, computed before, to be included.
    pub fid: Option<Fid>,
}

/// All results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Preset of the training configuration, if the model carries one.
    pub preset: Option<String>,
    /// Training iterations.
    pub step: Option<u64>,
    /// Number of trained parameters.
    pub parameters: u64,
    /// Measurement conditions.
    pub protocol: Protocol,
    /// Accuracy and calibration.
    pub calibration: Calibration,
    /// Out-of-distribution detection.
    pub detection: OodDetection,
    /// Robustness, one entry per norm.
    pub attacks: Vec<RobustnessCurve>,
    /// Sample diagnostics; absent for images of other than 1 or 3 channels.
    pub samples: Option<SampleDiagnostics>,
    /// FID and Inception score, if InceptionV3 weights were given.
    #[serde(default)]
    pub fid: Option<Fid>,
    /// Abstention thresholds, if the model carries them.
    pub thresholds: Option<ThresholdValues>,
    /// What abstaining on the test images costs and gains, over α; empty if there are too few validation images.
    #[serde(default)]
    pub abstention: Vec<Abstention>,
}

/// Runs all evaluations of the model, which was loaded from `path`, on the test images, and writes the results to `folder`.
///
/// # Errors
/// Those of the single evaluations; [`Error::Cancelled`]; [`Error::Io`].
pub fn evaluate_all(
    (model, path): (&Model, &Path),
    data: &EvalData,
    o: &Options<'_>,
    folder: &Path,
    progress: &mut ProgressFn<'_>,
) -> Result<Summary> {
    let parts = folder.join("parts");
    let evaluator = Evaluator::new(model, data, SplitPart::Test, (o.n, 0.0), Some(&parts))?;
    let scores = evaluator.scores(o.gradient, progress)?;
    let calibration = evaluator.calibration(&scores, data.bins, progress)?;
    let abstention = evaluator.abstention(&scores, progress)?;
    let detection = evaluator.detection(&scores, o.ood_sets, progress)?;
    let config = model.config()?;
    let drawable = matches!(model.network().config.image_size[2], 1 | 3);
    let samples = config
        .as_ref()
        .filter(|_| drawable)
        .map(|config| kept_samples(&evaluator, (model, path), config, data, folder, progress))
        .transpose()?;
    let attack_n = o.attack_n.min(o.n.unwrap_or(usize::MAX));
    let mut attacks = Vec::new();
    if !o.plans.is_empty() {
        let evaluator = Evaluator::new(model, data, SplitPart::Test, (Some(attack_n), 0.0), Some(&parts))?;
        for plan in o.plans {
            attacks.push(evaluator.attack(&Attack { plan, surrogate: o.surrogate }, progress)?);
        }
    }
    let summary = Summary {
        preset: config.map(|c| c.preset),
        step: model.metadata.get("step").and_then(|s| s.parse().ok()),
        parameters: model.network().parameter_count(),
        protocol: evaluator.protocol().clone(),
        calibration,
        detection,
        attacks,
        samples,
        fid: o.fid.clone(),
        thresholds: model.thresholds().map(|t| t.values.clone()),
        abstention,
    };
    write(&summary, folder)?;
    Ok(summary)
}

/// The sample diagnostics, computed again if one of their images is missing.
fn kept_samples(
    evaluator: &Evaluator<'_>,
    (model, path): (&Model, &Path),
    config: &Config,
    data: &EvalData,
    folder: &Path,
    progress: &mut ProgressFn<'_>,
) -> Result<SampleDiagnostics> {
    let make =
        |progress: &mut ProgressFn<'_>| diagnose_samples((model, path), config, data, folder, progress);
    let kept = evaluator.cache().part("samples", || make(progress))?;
    if kept.pictures.iter().all(|p| folder.join(&p.file).is_file()) { Ok(kept) } else { make(progress) }
}

fn write(summary: &Summary, folder: &Path) -> Result<()> {
    let put = |name: &str, text: &str| write_atomic(&folder.join(name), |w| w.write_all(text.as_bytes()));
    put("reliability.svg", &figures::reliability(&summary.calibration).svg())?;
    if !summary.abstention.is_empty() {
        put("abstention.svg", &figures::abstention(&summary.abstention).svg())?;
    }
    for (i, set) in summary.detection.sets.iter().enumerate() {
        put(&format!("histogram-{:02}.svg", i + 1), &figures::histogram(set).svg())?;
    }
    for curve in &summary.attacks {
        put(&format!("attack-{}.svg", curve.plan.norm.name()), &figures::robustness(curve).svg())?;
    }
    let text = serde_json::to_string_pretty(summary).map_err(|e| Error::Internal(e.to_string()))?;
    Ok(put(SUMMARY, &(text + "\n"))?)
}
