//! `jempp-cli eval calibration`, `ood` and `attack`.

use super::{part_of, text};
use crate::args::{Attack, AttackNorm, Calibration, EvalOutput, EvalTarget, Global, Ood};
use crate::commands::{json, print};
use crate::progress::{StageProgress, note};
use jempp::evaluation::Subject;
use jempp::model::Model;
use jempp::{Error, Result};
use jempp_eval::attack::{self, Curve, Norm, Plan};
use jempp_eval::picture;
use jempp_eval::run::Judge;
use jempp_formats::files::write_atomic;
use serde::Serialize;
use std::path::Path;

/// Loads the model and the data set to evaluate it on.
fn load(global: &Global, t: &EvalTarget) -> Result<(Model, Subject)> {
    let model = Model::load(&global.device()?, &t.model)?;
    let subject = Subject::of_model(&model, t.data.as_deref(), global.seed)?;
    if let Some(warning) = &subject.warning {
        note(global, &format!("warning: {warning}"));
    }
    Ok((model, subject))
}

/// The evaluator of a model on the images asked for, which keeps finished parts in the output folder.
fn evaluator<'a>(
    (t, o): (&EvalTarget, &EvalOutput),
    noise: f64,
    model: &'a Model,
    subject: &'a Subject,
) -> Result<Judge<'a>> {
    let parts = o.out.as_deref().map(|o| o.join("parts"));
    Judge::new(model, subject, part_of(t.split), (t.n, noise), parts.as_deref())
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
pub fn calibration(global: &Global, a: &Calibration) -> Result<()> {
    if a.bins == Some(0) {
        return Err(Error::Config("--bins 0: there must be at least one bin".into()));
    }
    let (model, subject) = load(global, &a.target)?;
    let evaluator = evaluator((&a.target, &a.output), a.noise, &model, &subject)?;
    let mut stages = StageProgress::new(global);
    let mut watch = |what: &str, done, all| stages.report(what, done, all);
    let scores = evaluator.scores(false, &mut watch)?;
    let c = evaluator.calibration(&scores, a.bins.unwrap_or(subject.bins), &mut watch)?;
    let plots = [("reliability".to_owned(), picture::reliability(&c).svg())];
    deliver(&a.output, "calibration", &c, text::calibration(&c), &plots)
}

/// `eval ood`.
pub fn ood(global: &Global, a: &Ood) -> Result<()> {
    let (model, subject) = load(global, &a.target)?;
    let evaluator = evaluator((&a.target, &a.output), a.noise, &model, &subject)?;
    let others = ood_sets(&model, &a.ood_data, global)?;
    let mut stages = StageProgress::new(global);
    let mut watch = |what: &str, done, all| stages.report(what, done, all);
    let scores = evaluator.scores(!a.no_gradient, &mut watch)?;
    let d = evaluator.detection(&scores, &others, &mut watch)?;
    let name = |i: usize| format!("histogram-{:02}", i + 1);
    let plots: Vec<_> =
        d.against.iter().enumerate().map(|(i, s)| (name(i), picture::histogram(s).svg())).collect();
    deliver(&a.output, "ood", &d, text::detection(&d), &plots)
}

/// The out-of-distribution data sets named, each with the last part of its path as its name.
pub fn ood_sets(model: &Model, names: &[String], global: &Global) -> Result<Vec<(String, Subject)>> {
    names.iter().map(|name| Subject::outside(model, name, global.seed)).collect()
}

/// One attack per norm asked for.
pub fn plans(a: &Attack) -> Result<Vec<Plan>> {
    let norms: Vec<Norm> = match a.norm.as_slice() {
        [] => vec![Norm::Linf, Norm::L2],
        some => some.iter().map(|n| if *n == AttackNorm::Linf { Norm::Linf } else { Norm::L2 }).collect(),
    };
    if norms.len() > 1 && (!a.epsilon.is_empty() || a.step_size.is_some()) {
        return Err(Error::Config("--epsilon and --step-size apply to one norm: name it with --norm".into()));
    }
    let plan = |norm| {
        let usual = Plan::usual(norm);
        let epsilons = if a.epsilon.is_empty() { usual.epsilons } else { a.epsilon.clone() };
        let steps = a.steps.unwrap_or(usual.steps);
        let plan = Plan {
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
pub fn attack(global: &Global, a: &Attack) -> Result<()> {
    let plans = plans(a)?;
    let (model, subject) = load(global, &a.target)?;
    let source = a.transfer_from.as_ref().map(|p| Model::load(model.device(), p)).transpose()?;
    let name = a.transfer_from.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let evaluator = evaluator((&a.target, &a.output), 0.0, &model, &subject)?;
    let mut stages = StageProgress::new(global);
    let mut curves: Vec<Curve> = Vec::new();
    for plan in &plans {
        let with = attack::Attack { plan, source: source.as_ref().map(|m| (m, name.as_str())) };
        curves.push(evaluator.attack(&with, &mut |what, done, all| stages.report(what, done, all))?);
    }
    let plots: Vec<_> = curves
        .iter()
        .map(|c| (format!("attack-{}", c.plan.norm.name()), picture::robustness(c).svg()))
        .collect();
    let text = curves.iter().map(text::curve).collect::<Vec<_>>().join("\n");
    deliver(&a.output, "attack", &curves, text, &plots)
}
