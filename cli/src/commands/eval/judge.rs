//! `jempp-cli eval calibration`, `ood` and `attack`.

use super::{part_of, text};
use crate::args::{Attack, AttackNorm, Calibration, Global, Judged, Ood};
use crate::commands::{json, print};
use crate::progress::{Stages, note};
use jempp::evaluation::Subject;
use jempp::model::Model;
use jempp::{Error, Result};
use jempp_eval::attack::{self, Curve, Norm, Plan};
use jempp_eval::picture;
use jempp_eval::run::Judge;
use jempp_formats::files::write_atomic;
use serde::Serialize;
use std::path::Path;

/// A model and its data.
fn load(global: &Global, j: &Judged) -> Result<(Model, Subject)> {
    let model = Model::load(&global.device()?, &j.model)?;
    let subject = Subject::of_model(&model, j.data.as_deref(), global.seed)?;
    if let Some(warning) = &subject.warning {
        note(global, &format!("warning: {warning}"));
    }
    Ok((model, subject))
}

fn judge<'a>(j: &Judged, noise: f64, model: &'a Model, subject: &'a Subject) -> Result<Judge<'a>> {
    let parts = j.out.as_deref().map(|o| o.join("parts"));
    Judge::new(model, subject, part_of(j.split), (j.n, noise), parts.as_deref())
}

/// Prints numbers as text or JSON, and writes them and their pictures.
fn give(
    j: &Judged,
    name: &str,
    value: &impl Serialize,
    text: String,
    plots: &[(String, String)],
) -> Result<()> {
    let value = json(value)?;
    if let Some(out) = &j.out {
        write(&out.join(format!("{name}.json")), &format!("{value:#}\n"))?;
        for (name, svg) in plots {
            write(&out.join(format!("{name}.svg")), svg)?;
        }
    }
    print(&if j.json { format!("{value}\n") } else { text })
}

fn write(path: &Path, text: &str) -> Result<()> {
    Ok(write_atomic(path, |w| w.write_all(text.as_bytes()))?)
}

/// `eval calibration`.
pub fn calibration(global: &Global, a: &Calibration) -> Result<()> {
    if a.bins == Some(0) {
        return Err(Error::Config("--bins 0: there must be at least one".into()));
    }
    let (model, subject) = load(global, &a.judged)?;
    let judge = judge(&a.judged, a.noise, &model, &subject)?;
    let mut stages = Stages::new(global);
    let mut watch = |what: &str, done, all| stages.tell(what, done, all);
    let scores = judge.scores(false, &mut watch)?;
    let c = judge.calibration(&scores, a.bins.unwrap_or(subject.bins), &mut watch)?;
    let plots = [("reliability".to_owned(), picture::reliability(&c).svg())];
    give(&a.judged, "calibration", &c, text::calibration(&c), &plots)
}

/// `eval ood`.
pub fn ood(global: &Global, a: &Ood) -> Result<()> {
    let (model, subject) = load(global, &a.judged)?;
    let judge = judge(&a.judged, a.noise, &model, &subject)?;
    let others = others(&model, &a.against, global)?;
    let mut stages = Stages::new(global);
    let mut watch = |what: &str, done, all| stages.tell(what, done, all);
    let scores = judge.scores(!a.no_gradient, &mut watch)?;
    let d = judge.detection(&scores, &others, &mut watch)?;
    let name = |i: usize| format!("histogram-{:02}", i + 1);
    let plots: Vec<_> =
        d.against.iter().enumerate().map(|(i, s)| (name(i), picture::histogram(s).svg())).collect();
    give(&a.judged, "ood", &d, text::detection(&d), &plots)
}

/// The data sets named, with what is left of their paths as names.
pub fn others(model: &Model, names: &[String], global: &Global) -> Result<Vec<(String, Subject)>> {
    names.iter().map(|name| Subject::outside(model, name, global.seed)).collect()
}

/// The plans of the balls asked for.
pub fn plans(a: &Attack) -> Result<Vec<Plan>> {
    let norms: Vec<Norm> = match a.norm.as_slice() {
        [] => vec![Norm::Linf, Norm::L2],
        some => some.iter().map(|n| if *n == AttackNorm::Linf { Norm::Linf } else { Norm::L2 }).collect(),
    };
    if norms.len() > 1 && (!a.epsilon.is_empty() || a.step_size.is_some()) {
        return Err(Error::Config("--epsilon and --step-size are of one ball: name it with --norm".into()));
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
    let (model, subject) = load(global, &a.judged)?;
    let source = a.transfer.as_ref().map(|p| Model::load(model.device(), p)).transpose()?;
    let name = a.transfer.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let judge = judge(&a.judged, 0.0, &model, &subject)?;
    let mut stages = Stages::new(global);
    let mut curves: Vec<Curve> = Vec::new();
    for plan in &plans {
        let with = attack::Attack { plan, source: source.as_ref().map(|m| (m, name.as_str())) };
        curves.push(judge.attack(&with, &mut |what, done, all| stages.tell(what, done, all))?);
    }
    let plots: Vec<_> = curves
        .iter()
        .map(|c| (format!("attack-{}", c.plan.norm.name()), picture::robustness(c).svg()))
        .collect();
    let text = curves.iter().map(text::curve).collect::<Vec<_>>().join("\n");
    give(&a.judged, "attack", &curves, text, &plots)
}
