//! `jempp-cli predict`.

use super::{check_output, print};
use crate::args::{FloatRange, Format, Global, Predict, Resizing};
use crate::progress::note;
use jempp::model::Model;
use jempp::model::inputs::{self, InputOptions, Inputs};
use jempp::model::predict::{Gradient, Predictions, predict};
use jempp::{Error, Result};
use jempp_formats::files::write_atomic;
use jempp_formats::npz::Float;
use jempp_formats::resize::{Fit, Resize};
use jempp_formats::unpack::Unpack;
use serde_json::{Value, json};
use std::path::Path;

/// Predicts, and writes the predictions.
pub(crate) fn run(global: &Global, a: &Predict) -> Result<()> {
    let format = format(a)?;
    if let Some(path) = &a.output {
        check_output(path)?;
    }
    let model = Model::load(&global.device()?, &a.model)?;
    let size = model.network().config.image_size;
    let options = input_options(a, &model)?;
    let inputs = inputs::read(&inputs::files(&a.input)?, size, &options)?;
    inputs.warnings.iter().for_each(|w| note(global, &format!("warning: {w}")));
    let gradient = match (a.input_grad, a.label.as_slice()) {
        (false, _) => Gradient::No,
        (true, []) => Gradient::LogDensity,
        (true, labels) => Gradient::Labels(labels),
    };
    let p = predict(&model, &inputs.images, gradient)?;
    match (format, &a.output) {
        (Format::Npz, Some(path)) => p.write_npz(path, size)?,
        (_, Some(path)) => write_atomic(path, |w| w.write_all(text(format, &p, &inputs).as_bytes()))?,
        (_, None) => return print(&text(format, &p, &inputs)),
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
        (None, _, Some("csv")) => Ok(Format::Csv),
        (None, ..) => Ok(Format::Npz),
    }
}

/// How images are read: scaled if that is asked for or the model was trained on scaled images.
fn input_options(a: &Predict, model: &Model) -> Result<InputOptions> {
    let [h, w, _] = model.network().config.image_size;
    let trained = model.config()?.and_then(|c| c.data.resizing());
    let asked = a.resize.map(|mode| match mode {
        Resizing::Crop => Fit::Crop,
        Resizing::Squash => Fit::Squash,
    });
    let fit = asked.or(trained.map(|r| r.fit));
    let filter = trained.map(|r| r.filter).unwrap_or_default();
    let resize = fit.map(|fit| Resize { size: [h, w], fit, filter });
    let range = a.range.map(|r| match r {
        FloatRange::Signed => Float::Signed,
        FloatRange::Unit => Float::Unit,
        FloatRange::Byte => Float::Byte,
    });
    let unpack = a.unpack_limit.map_or_else(Unpack::default, Unpack::mebibytes);
    Ok(InputOptions { resize, range, unpack })
}

fn text(format: Format, p: &Predictions, inputs: &Inputs) -> String {
    if format == Format::Csv { table(p, inputs) } else { lines(p, inputs) }
}

/// A table with a line per image; gradients are left to the other formats.
fn table(p: &Predictions, inputs: &Inputs) -> String {
    let k = p.classes();
    let mut out = "index,file,image,label,probability,log_density".to_owned();
    if p.decisions.is_some() {
        out += ",calibrated,ood_p_value,abstain";
    }
    for name in ["logit", "prob"] {
        (0..k).for_each(|i| out += &format!(",{name}_{i}"));
    }
    out.push('\n');
    for (i, (file, image)) in inputs.sources.iter().enumerate() {
        let Some((label, probability)) = p.label(i) else { continue };
        let file = quoted(&file.display().to_string());
        out += &format!("{i},{file},{image},{label},{probability},{}", p.log_density[i]);
        if let Some(d) = p.decisions.as_ref().and_then(|d| d.get(i)) {
            out += &format!(",{},{},{}", d.probability, d.ood_p_value, d.abstain);
        }
        for values in [&p.logits, &p.probs] {
            values[i * k..(i + 1) * k].iter().for_each(|v| out += &format!(",{v}"));
        }
        out.push('\n');
    }
    out
}

/// A field of a table, in quotes if it needs them.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// One JSON object per image and line.
fn lines(p: &Predictions, inputs: &Inputs) -> String {
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
            if let Some((file, image)) = inputs.sources.get(i) {
                fields.insert("file".into(), json!(file.display().to_string()));
                fields.insert("image".into(), json!(image));
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
