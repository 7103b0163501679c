//! `jempp-cli eval`.

mod all;
mod fid;
mod fid_job;
mod metrics;
mod text;
mod thresholds;

use super::{json, print};
use crate::args::{Accuracy, Eval, EvalCommand, Global, SplitName};
use jempp::Result;
use jempp::evaluation::{Judgement, Part, Task};
use jempp::model::Model;
use serde_json::Value;

/// Evaluates a model.
pub fn run(global: &Global, a: &Eval) -> Result<()> {
    match &a.command {
        EvalCommand::Accuracy(a) => accuracy(global, a),
        EvalCommand::Calibration(a) => metrics::calibration(global, a),
        EvalCommand::Ood(a) => metrics::ood(global, a),
        EvalCommand::Attack(a) => metrics::attack(global, a),
        EvalCommand::Fid(a) => fid::run(global, a),
        EvalCommand::All(a) => all::run(global, a),
        EvalCommand::Thresholds(a) => thresholds::run(global, a),
    }
}

fn part_of(name: SplitName) -> Part {
    match name {
        SplitName::Test => Part::Test,
        SplitName::Valid => Part::Valid,
        SplitName::Train => Part::Train,
    }
}

fn accuracy(global: &Global, a: &Accuracy) -> Result<()> {
    let model = Model::load(&global.device()?, &a.model)?;
    let part = part_of(a.split);
    let task = Task::of_model(&model, a.data.as_deref(), part, global.seed)?;
    if let (Some(warning), false) = (&task.warning, global.quiet) {
        eprintln!("warning: {warning}");
    }
    let judgement = task.judge(&model)?;
    if !a.json {
        return print(&text(&task, part, &judgement));
    }
    let mut value = json(&judgement)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("dataset".into(), task.set.name().into());
        fields.insert("split".into(), part.name().into());
        fields.insert("seed".into(), task.seed.into());
    }
    print(&format!("{value}\n"))
}

fn text(task: &Task, part: Part, j: &Judgement) -> String {
    let c = &j.classification;
    let mut out = format!("{}, {} images ({})\n", task.set.name(), part.name(), c.n);
    out += &format!("accuracy           {:.4}\n", c.accuracy);
    out += &format!("calibration error  {:.4}  (ECE, {} bins)\n", c.ece, c.ece_bins);
    out += &format!("NLL                {:.4}\n", c.nll);
    out += &format!("Brier score        {:.4}\n", c.brier);
    for d in &j.detection {
        let (density, confidence) = (d.auroc_log_density, d.auroc_max_probability);
        out += &format!(
            "AUROC              {density:.4} of log p(x), {confidence:.4} of max p(y|x), against {}\n",
            d.against
        );
    }
    out
}
