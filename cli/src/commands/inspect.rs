//! `jempp-cli inspect`.

use super::{bytes, json, print};
use crate::args::{Global, Inspect};
use jempp::Result;
use jempp::config::NormKind;
use jempp::evaluation::Evaluation;
use jempp::inspect::{Inspection, inspect};
use serde_json::Value;
use std::fmt::Display;

/// Prints what a path contains.
pub(crate) fn run(global: &Global, a: &Inspect) -> Result<()> {
    let i = inspect(&a.path)?;
    let all = global.verbose > 0;
    if !a.json {
        return print(&text(&i, all));
    }
    let mut value = json(&i)?;
    if let (Value::Object(fields), false) = (&mut value, all) {
        fields.remove("tensors");
    }
    print(&format!("{value}\n"))
}

fn line(out: &mut String, name: &str, value: impl Display) {
    *out += &format!("{name:<12} {value}\n");
}

fn text(i: &Inspection, all: bool) -> String {
    let mut out = String::new();
    let unknown = || "unknown".to_owned();
    let or = |v: &Option<String>| v.clone().unwrap_or_else(unknown);
    let m = &i.architecture;
    let [h, w, c] = m.image_size;
    line(&mut out, "model", i.model.display());
    let shape = format!("{}-{}, images {h}×{w}×{c}, {} classes", m.depth, m.widen_factor, m.classes);
    let head = if m.energy_head { ", energy head" } else { "" };
    line(&mut out, "network", format!("Wide-ResNet {shape}, leak {}{head}", m.leak));
    if i.image_size_assumed {
        let why = format!(
            "{h}×{w} is assumed, as the file has no replay buffer; set it with convert --image-size H W"
        );
        line(&mut out, "", why);
    }
    line(&mut out, "parameters", i.parameters);
    line(&mut out, "step", i.step.map_or_else(unknown, |s| s.to_string()));
    if let (Some(run), [_, ..]) = (&i.run, i.checkpoints.as_slice()) {
        let steps: Vec<String> = i.checkpoints.iter().map(u64::to_string).collect();
        line(&mut out, "run", format!("{}, checkpoints at {}", run.display(), steps.join(", ")));
    }
    line(&mut out, "data set", format!("{}, CRC-32C {}", or(&i.dataset), or(&i.dataset_crc32c)));
    if !i.class_names.is_empty() {
        line(&mut out, "classes", i.class_names.join(", "));
    }
    line(&mut out, "seed", i.seed.map_or_else(unknown, |s| s.to_string()));
    match m.norm {
        NormKind::Batch => line(&mut out, "batch norm", format!("{} statistics", or(&i.bn))),
        other => line(&mut out, "norm", format!("{other:?}").to_lowercase()),
    }
    match &i.source {
        Some(source) => line(&mut out, "made from", source),
        None => line(&mut out, "made by", format!("jempp {}", or(&i.jempp_version))),
    }
    if let Some(recipe) = &i.recipe {
        line(&mut out, "recipe", recipe);
    }
    if let Some(n) = i.replay_buffer {
        line(&mut out, "buffer", format!("{n} chains; sample --start buffer continues them"));
    }
    match i.start_samples {
        Some(b) => {
            line(&mut out, "start images", format!("{} samples of {} class Gaussians", b.draws, b.classes))
        }
        None if i.replay_buffer.is_some() => {}
        None => line(&mut out, "start images", "none; chains can start from noise"),
    }
    metrics(&mut out, i);
    for (k, f) in i.files.iter().enumerate() {
        let name = if k == 0 { "files" } else { "" };
        line(&mut out, name, format!("{:<20} {}", f.name, bytes(f.bytes)));
    }
    if all {
        for t in &i.tensors {
            line(&mut out, "tensor", format!("{:<36} {:<8} {:?}", t.name, t.dtype, t.shape));
        }
    }
    out
}

fn metrics(out: &mut String, i: &Inspection) {
    let evaluation = i.metrics.clone().and_then(|m| serde_json::from_value::<Evaluation>(m).ok());
    let Some(e) = evaluation else {
        line(out, "metrics", "none: not evaluated yet");
        return;
    };
    let c = e.classification;
    let text =
        format!("accuracy {:.4}, ECE {:.4}, NLL {:.4} on {} test images", c.accuracy, c.ece, c.nll, c.n);
    line(out, "metrics", text);
    for d in e.detection {
        let text = format!("AUROC of log p(x) {:.4} against {}", d.auroc_log_density, d.against);
        line(out, "", text);
    }
}
