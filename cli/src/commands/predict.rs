//! `jempp-cli predict`.

use super::{check_output, print};
use crate::args::{Format, Global, Predict};
use jempp::model::Model;
use jempp::model::predict::{Gradient, Predictions, predict, read_inputs};
use jempp::{Error, Result};
use jempp_formats::files::write_atomic;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Predicts, and writes the predictions.
pub(crate) fn run(global: &Global, a: &Predict) -> Result<()> {
    let format = format(a)?;
    if let Some(path) = &a.output {
        check_output(path)?;
    }
    let model = Model::load(&global.device()?, &a.model)?;
    let size = model.network().config.image_size;
    let images = read_inputs(&a.input, size)?;
    let gradient = match (a.input_grad, a.label.as_slice()) {
        (false, _) => Gradient::No,
        (true, []) => Gradient::LogDensity,
        (true, labels) => Gradient::Labels(labels),
    };
    let p = predict(&model, &images, gradient)?;
    match (format, &a.output) {
        (Format::Npz, Some(path)) => p.write_npz(path, size)?,
        (_, Some(path)) => write_atomic(path, |w| w.write_all(lines(&p, &a.input).as_bytes()))?,
        (_, None) => return print(&lines(&p, &a.input)),
    }
    if let (Some(path), false) = (&a.output, global.quiet) {
        print(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

fn format(a: &Predict) -> Result<Format> {
    let ending = a.output.as_deref().and_then(Path::extension).map(|e| e.to_string_lossy().to_lowercase());
    match (a.format, &a.output, ending.as_deref()) {
        (Some(Format::Npz), None, _) => Err(Error::Config("--format npz needs --output FILE".into())),
        (Some(format), ..) => Ok(format),
        (None, None, _) | (None, _, Some("jsonl" | "json" | "ndjson")) => Ok(Format::Jsonl),
        (None, ..) => Ok(Format::Npz),
    }
}

/// One JSON object per image and line.
fn lines(p: &Predictions, inputs: &[PathBuf]) -> String {
    let (n, k) = (p.count(), p.classes());
    let mut out = String::new();
    for i in 0..n {
        let Some((label, probability)) = p.label(i) else { continue };
        let row = |v: &[f32]| json!(v[i * k..(i + 1) * k]);
        let mut line = json!({
            "index": i, "label": label, "probability": probability, "log_density": p.log_density[i],
            "logits": row(&p.logits), "probs": row(&p.probs),
        });
        if let Value::Object(fields) = &mut line {
            // With as many images as files, each file was one.
            if n == inputs.len() {
                fields.insert("file".into(), json!(inputs[i].display().to_string()));
            }
            if let Some(d) = p.decisions.as_ref().and_then(|d| d.get(i)) {
                fields.insert("calibrated".into(), json!(d.probability));
                fields.insert("ood_p_value".into(), json!(d.ood_p_value));
                fields.insert("abstain".into(), json!(d.abstain));
            }
            if let Some(g) = &p.input_grad {
                fields.insert("input_grad".into(), json!(g[i * (g.len() / n)..(i + 1) * (g.len() / n)]));
            }
        }
        out.push_str(&line.to_string());
        out.push('\n');
    }
    out
}
