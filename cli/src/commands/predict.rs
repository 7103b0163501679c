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
    let names = model.class_names();
    warn_of_abstention(global, &p);
    let text = || if format == Format::Csv { table(&p, &inputs, &names) } else { lines(&p, &inputs, &names) };
    match (format, &a.output) {
        (Format::Npz, Some(path)) => p.write_npz(path, size)?,
        (_, Some(path)) => write_atomic(path, |w| w.write_all(text().as_bytes()))?,
        (_, None) => return print(&text()),
    }
    if let (Some(path), false) = (&a.output, global.quiet) {
        print(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

/// Says so if the model abstains on more images than it classifies.
fn warn_of_abstention(global: &Global, p: &Predictions) {
    let decisions = p.decisions.as_deref().unwrap_or_default();
    let abstained = decisions.iter().filter(|d| d.abstain).count();
    if abstained * 2 > decisions.len() && decisions.len() > 1 {
        let n = decisions.len();
        note(
            global,
            &format!(
                "warning: the model abstains on {abstained} of {n} images; `jempp-cli eval thresholds` shows what other values \
                 of α would do"
            ),
        );
    }
}

/// The format asked for, which must not contradict the name of the file.
fn format(a: &Predict) -> Result<Format> {
    let Some(path) = &a.output else {
        return match a.format {
            Some(Format::Npz) => Err(Error::Config("--format npz needs --output FILE".into())),
            format => Ok(format.unwrap_or(Format::Jsonl)),
        };
    };
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let by_name = match ending.as_deref() {
        Some("jsonl" | "json" | "ndjson") => Some(Format::Jsonl),
        Some("csv") => Some(Format::Csv),
        Some("npz") => Some(Format::Npz),
        _ => None,
    };
    let wrong = |why: String| Err(Error::Config(format!("{}: {why}", path.display())));
    match (a.format, by_name) {
        (Some(format), Some(named)) if named != format => {
            let name = match format {
                Format::Npz => "npz",
                Format::Jsonl => "jsonl",
                Format::Csv => "csv",
            };
            wrong(format!("the name of the file does not fit --format {name}"))
        }
        (Some(format), _) | (None, Some(format)) => Ok(format),
        (None, None) => {
            wrong("name a file that ends in .npz, .jsonl or .csv, or say with --format what to write".into())
        }
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

/// A table with a line per image; gradients are left to the other formats.
fn table(p: &Predictions, inputs: &Inputs, names: &[String]) -> String {
    let k = p.classes();
    let mut out = "index,file,image,label,class,probability,log_density".to_owned();
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
        let class = quoted(names.get(label).map_or("", String::as_str));
        out += &format!("{i},{file},{image},{label},{class},{probability},{}", p.log_density[i]);
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
fn lines(p: &Predictions, inputs: &Inputs, names: &[String]) -> String {
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
            if let Some(name) = names.get(label) {
                fields.insert("class".into(), json!(name));
            }
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
