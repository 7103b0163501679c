//! `jempp-cli eval thresholds`.

use super::load;
use crate::args::{Global, Thresholds};
use crate::commands::{check_output, json, print};
use crate::progress::StageProgress;
use jempp::run::thresholds::{fit, store};
use jempp::{Error, Result};

/// Fits abstention thresholds and stores them in the model.
pub(super) fn run(global: &Global, a: &Thresholds) -> Result<()> {
    if let Some(path) = &a.output {
        check_output(path)?;
    } else if !a.model.join("ckpt").is_dir() {
        return Err(Error::Config(format!(
            "{}: not a run folder; name a file for the model with thresholds with --output",
            a.model.display()
        )));
    }
    let (mut model, data) = load(global, &a.model, a.data.as_deref())?;
    let mut stages = StageProgress::new(global);
    let valid = (&data.set, data.split.valid.as_slice());
    let progress = &mut |done, total| stages.report("scoring valid", done, total);
    let thresholds = fit(&model, valid, [a.alpha, a.ood_alpha], progress)?;
    let values = thresholds.values.clone();
    let at = match &a.output {
        Some(path) => {
            model.set_thresholds(thresholds);
            model.to_container()?.write(path)?;
            path.clone()
        }
        None => store(&a.model, &thresholds)?,
    };
    if a.json {
        return print(&format!("{}\n", json(&values)?));
    }
    let [first, second] = values.fitted_on;
    print(&format!(
        "temperature        {:.4}  (fitted on {first} validation images)\n\
         abstains if        no class or more than one reaches probability {:.4} (α = {}, {second} other images),\n\
         \x20                  or the p-value of log p(x) is below {} ({} images)\n\
         stored in          {}\n",
        values.temperature,
        values.probability,
        values.alpha,
        values.ood_alpha,
        first + second,
        at.display()
    ))
}
