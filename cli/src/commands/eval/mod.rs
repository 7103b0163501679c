//! `jempp-cli eval`.

mod all;
mod fid;
mod metrics;
mod text;
mod thresholds;

use super::{json, print};
use crate::args::{Accuracy, Eval, EvalCommand, Global, SplitName};
use crate::progress::note;
use jempp::Result;
use jempp::evaluation::{EvalData, Evaluation, SplitPart, evaluate};
use jempp::model::Model;
use serde_json::Value;
use std::path::Path;

/// Evaluates a model.
pub(crate) fn run(global: &Global, a: &Eval) -> Result<()> {
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

/// Loads a model, and the data set to evaluate it on: the one named, or the one it was trained on.
fn load(global: &Global, path: &Path, dataset: Option<&str>) -> Result<(Model, EvalData)> {
    let model = Model::load(&global.device()?, path)?;
    let data = eval_data(global, &model, dataset)?;
    Ok((model, data))
}

/// Loads the data set to evaluate a model on, and prints a warning if it has changed since training.
fn eval_data(global: &Global, model: &Model, dataset: Option<&str>) -> Result<EvalData> {
    let data = EvalData::for_model(model, dataset, global.seed)?;
    if let Some(warning) = &data.warning {
        note(global, &format!("warning: {warning}"));
    }
    Ok(data)
}

fn split_part(name: SplitName) -> SplitPart {
    match name {
        SplitName::Test => SplitPart::Test,
        SplitName::Valid => SplitPart::Valid,
        SplitName::Train => SplitPart::Train,
    }
}

fn accuracy(global: &Global, a: &Accuracy) -> Result<()> {
    let (model, data) = load(global, &a.model, a.data.as_deref())?;
    let part = split_part(a.split);
    let evaluation = evaluate(&model, &data.set, data.part(part)?, data.bins, data.seed)?;
    if !a.json {
        return print(&text(data.set.name(), part, &evaluation));
    }
    let mut value = json(&evaluation)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("dataset".into(), data.set.name().into());
        fields.insert("split".into(), part.name().into());
        fields.insert("seed".into(), data.seed.into());
    }
    print(&format!("{value}\n"))
}

fn text(dataset: &str, part: SplitPart, e: &Evaluation) -> String {
    let c = &e.classification;
    let mut out = format!("{dataset}, {} images ({})\n", part.name(), c.n);
    out += &format!("accuracy           {:.4}\n", c.accuracy);
    out += &format!("calibration error  {:.4}  (ECE, {} bins)\n", c.ece, c.ece_bins);
    out += &format!("NLL                {:.4}\n", c.nll);
    out += &format!("Brier score        {:.4}\n", c.brier);
    for d in &e.detection {
        let (density, confidence) = (d.auroc_log_density, d.auroc_max_probability);
        out += &format!(
            "AUROC              {density:.4} of log p(x), {confidence:.4} of max p(y|x), against {}\n",
            d.against
        );
    }
    out
}
