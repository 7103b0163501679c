//! `jempp-cli eval thresholds`.

use super::load;
use crate::args::{Global, Thresholds};
use crate::commands::{check_ending, check_output, json, print};
use crate::progress::{StageProgress, note};
use jempp::model::thresholds::{Abstention, ThresholdValues};
use jempp::run::thresholds::{fit, score, store};
use jempp::{Error, Result};
use std::path::Path;

/// Fits abstention thresholds and stores them in the model.
pub(super) fn run(global: &Global, a: &Thresholds) -> Result<()> {
    if let Some(path) = &a.output {
        check_ending(path, &["safetensors"])?;
        check_output(path)?;
    } else if !a.model.join("ckpt").is_dir() {
        return Err(Error::Config(format!(
            "{}: not a run folder; name a file for the model with thresholds with --output",
            a.model.display()
        )));
    }
    let (mut model, data) = load(global, &a.model, a.data.as_deref())?;
    let mut stages = StageProgress::new(global);
    let mut scored = |name: &str, part: &[u32]| {
        let stage = format!("scoring {name}");
        score(&model, (&data.set, part), &mut |done, total| stages.report(&stage, done, total))
    };
    let valid = scored("valid", &data.split.valid)?;
    let thresholds = fit(&model, &data.set, &valid, [a.alpha, a.ood_alpha])?;
    let values = thresholds.values.clone();
    // Without test images the validation images have to do, which the thresholds know.
    let (name, images) = match data.split.test.is_empty() {
        true => ("validation", valid.clone()),
        false => ("test", scored("test", &data.split.test)?),
    };
    let classes = model.network().config.classes;
    let effect = thresholds.abstention(&images.scores, (classes, &images.labels))?;
    let curve = Abstention::curve((&valid.scores, &valid.labels), (&images.scores, &images.labels), classes)?;
    let at = match &a.output {
        Some(path) => {
            model.set_thresholds(thresholds);
            model.to_container()?.write(path)?;
            path.clone()
        }
        None => store(&a.model, &thresholds)?,
    };
    values.warnings().iter().for_each(|w| note(global, &format!("warning: {w}")));
    if a.json {
        let mut value = json(&values)?;
        if let serde_json::Value::Object(fields) = &mut value {
            fields.insert("evaluated_on".into(), name.into());
            fields.insert("abstention".into(), json(&effect)?);
            fields.insert("curve".into(), json(&curve)?);
        }
        return print(&format!("{value}\n"));
    }
    print(&text(&values, &at, (&effect, name), &curve))
}

fn text(
    values: &ThresholdValues,
    at: &Path,
    (effect, name): (&Abstention, &str),
    curve: &[Abstention],
) -> String {
    let [first, second] = values.fitted_on;
    format!(
        "temperature        {}\n\
         abstains if        no class or more than one reaches probability {:.4} (α = {}, {second} other images),\n\
         \x20                  or the p-value of log p(x) is below {} ({} images)\n\
         stored in          {}\n\
         answers            {} of {} {name} images\n\n{}",
        values.fit.as_ref().map(|f| f.line()).unwrap_or_default(),
        values.probability,
        values.alpha,
        values.ood_alpha,
        first + second,
        at.display(),
        effect.n - effect.abstained,
        effect.n,
        super::text::abstention(curve)
    )
}
