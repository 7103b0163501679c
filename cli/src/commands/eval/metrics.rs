//! `jempp-cli eval calibration`, `ood` and `attack`.

use super::{load, split_part, text};
use crate::args::{Attack, AttackNorm, Calibration, EvalOutput, EvalTarget, Global, Ood};
use crate::commands::{json, print};
use crate::progress::StageProgress;
use jempp::evaluation::EvalData;
use jempp::model::Model;
use jempp::{Error, Result};
use jempp_eval::attack::{self, AttackPlan, Norm, RobustnessCurve};
use jempp_eval::{Evaluator, figures};
use jempp_formats::files::write_atomic;
use serde::Serialize;
use std::path::Path;

/// The evaluator of a model on the images asked for, which keeps finished parts in the output folder.
fn evaluator<'a>(
    (t, o): (&EvalTarget, &EvalOutput),
    noise: f64,
    model: &'a Model,
    data: &'a EvalData,
) -> Result<Evaluator<'a>> {
    let parts = o.out.as_deref().map(|o| o.join("parts"));
    Evaluator::new(model, data, split_part(t.split), (t.n, noise), parts.as_deref())
}

/// Prints the numbers as text or JSON, and writes them and their charts to the output folder.
fn deliver(
    o: &EvalOutput,
    name: &str,
    value: &impl Serialize,
    text: String,
    plots: &[(String, String)],
) -> Result<()> {
    let value = json(value)?;
    if let Some(out) = &o.out {
        write(&out.join(format!("{name}.json")), &format!("{value:#}\n"))?;
        for (name, svg) in plots {
            write(&out.join(format!("{name}.svg")), svg)?;
        }
    }
    print(&if o.json { format!("{value}\n") } else { text })
}

fn write(path: &Path, text: &str) -> Result<()> {
    Ok(write_atomic(path, |w| w.write_all(text.as_bytes()))?)
}

/// `eval calibration`.
pub(super) fn calibration(global: &Global, a: &Calibration) -> Result<()> {
    if a.bins == Some(0) {
        return Err(Error::Config("--bins 0: there must be at least one bin".into()));
    }
    let (model, data) = load(global, &a.target.model, a.target.data.as_deref())?;
    let evaluator = evaluator((&a.target, &a.output), a.noise, &model, &data)?;
    let mut stages = StageProgress::new(global);
    let mut progress = |stage: &str, done, total| stages.report(stage, done, total);
    let scores = evaluator.scores(false, &mut progress)?;
    let c = evaluator.calibration(&scores, a.bins.unwrap_or(data.bins), &mut progress)?;
    let plots = [("reliability".to_owned(), figures::reliability(&c).svg())];
    deliver(&a.output, "calibration", &c, text::calibration(&c), &plots)
}

/// `eval ood`.
pub(super) fn ood(global: &Global, a: &Ood) -> Result<()> {
    let (model, data) = load(global, &a.target.model, a.target.data.as_deref())?;
    let evaluator = evaluator((&a.target, &a.output), a.noise, &model, &data)?;
    let others = ood_sets(&model, &a.ood_data, global)?;
    let mut stages = StageProgress::new(global);
    let mut progress = |stage: &str, done, total| stages.report(stage, done, total);
    let scores = evaluator.scores(!a.no_gradient, &mut progress)?;
    let d = evaluator.detection(&scores, &others, &mut progress)?;
    let name = |i: usize| format!("histogram-{:02}", i + 1);
    let plots: Vec<_> =
        d.sets.iter().enumerate().map(|(i, s)| (name(i), figures::histogram(s).svg())).collect();
    deliver(&a.output, "ood", &d, text::detection(&d), &plots)
}

/// The out-of-distribution data sets named, each with the last part of its path as its name.
pub(super) fn ood_sets(model: &Model, names: &[String], global: &Global) -> Result<Vec<(String, EvalData)>> {
    names.iter().map(|name| EvalData::outliers(model, name, global.seed)).collect()
}

/// One attack per norm asked for.
pub(super) fn plans(a: &Attack) -> Result<Vec<AttackPlan>> {
    let norms: Vec<Norm> = match a.norm.as_slice() {
        [] => vec![Norm::Linf, Norm::L2],
        some => some.iter().map(|n| if *n == AttackNorm::Linf { Norm::Linf } else { Norm::L2 }).collect(),
    };
    if norms.len() > 1 && (!a.epsilon.is_empty() || a.step_size.is_some()) {
        return Err(Error::Config("--epsilon and --step-size apply to one norm: name it with --norm".into()));
    }
    let plan = |norm| {
        let usual = AttackPlan::usual(norm);
        let mut epsilons = if a.epsilon.is_empty() { usual.epsilons } else { a.epsilon.clone() };
        epsilons.sort_unstable_by(f64::total_cmp);
        epsilons.dedup();
        let steps = a.steps.unwrap_or(usual.steps);
        let plan = AttackPlan {
            norm,
            epsilons,
            steps,
            step_size: a.step_size,
            restarts: a.restarts,
            margin: !a.no_margin,
        };
        plan.check()?;
        Ok(plan)
    };
    norms.into_iter().map(plan).collect()
}

/// `eval attack`.
pub(super) fn attack(global: &Global, a: &Attack) -> Result<()> {
    let plans = plans(a)?;
    let (model, data) = load(global, &a.target.model, a.target.data.as_deref())?;
    let surrogate = a.transfer_from.as_ref().map(|p| Model::load(model.device(), p)).transpose()?;
    let name = a.transfer_from.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let evaluator = evaluator((&a.target, &a.output), 0.0, &model, &data)?;
    let mut stages = StageProgress::new(global);
    let mut curves: Vec<RobustnessCurve> = Vec::new();
    for plan in &plans {
        let attack = attack::Attack { plan, surrogate: surrogate.as_ref().map(|m| (m, name.as_str())) };
        curves.push(evaluator.attack(&attack, &mut |stage, done, total| stages.report(stage, done, total))?);
    }
    let plots: Vec<_> = curves
        .iter()
        .map(|c| (format!("attack-{}", c.plan.norm.name()), figures::robustness(c).svg()))
        .collect();
    let text = curves.iter().map(text::curve).collect::<Vec<_>>().join("\n");
    deliver(&a.output, "attack", &curves, text, &plots)
}
