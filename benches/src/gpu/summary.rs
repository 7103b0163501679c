//! The file of results as one page of Markdown: what was measured, what failed, and what is missing.
//!
//! What must hold: a job that did not run to its end is named, with the check that ended it; a ratio is formed only of
//! numbers measured with the same network, batch and number of steps.

use super::journal::{self, Line};
use super::runner::is_complete;
use super::{Job, Stage};
use serde_json::Value;
use std::fmt::Write as _;

/// Ratios to reach: times as fast as eager PyTorch and as the faster of its compiled forms, share of its memory, share of the
/// bf16 peak.
const EAGER: f64 = 2.0;
const COMPILED: f64 = 1.3;
const MEMORY: f64 = 0.7;
const PEAK: f64 = 0.5;
/// Nodes of a profile, and failed checks, that are listed.
const ROWS: usize = 12;
const FAILED: usize = 20;

/// The page.
#[must_use]
pub fn summary(lines: &[Line], jobs: &[Job]) -> String {
    let mut out = "# GPU check\n".to_owned();
    machine(&mut out, lines);
    iterations(&mut out, lines);
    profiles(&mut out, lines);
    convolutions(&mut out, lines);
    comparisons(&mut out, lines, jobs);
    failures(&mut out, lines, jobs);
    missing(&mut out, lines, jobs);
    notes(&mut out, lines);
    out
}

macro_rules! say {
    ($out:expr, $($what:tt)*) => {
        // Writing to a string does not fail.
        writeln!($out, $($what)*).unwrap_or_default()
    };
}

/// The numbers of all passed checks of a kind, the latest of each.
fn passed<'a>(lines: &'a [Line], group: &str) -> Vec<&'a Value> {
    let mut latest: Vec<&Line> = Vec::new();
    for line in lines.iter().filter(|l| l.text("event") == "check" && l.text("group") == group) {
        latest.retain(|l| l.text("job") != line.text("job") || l.text("name") != line.text("name"));
        latest.push(line);
    }
    latest.into_iter().filter(|l| l.text("status") == "ok").map(|l| &l.value["data"]).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn machine(out: &mut String, lines: &[Line]) {
    let Some(report) = lines.iter().rev().find(|l| l.text("event") == "report") else { return };
    let report = &report.value["report"];
    for device in report["devices"].as_array().into_iter().flatten() {
        say!(
            out,
            "\n{}, {:.0} GiB, compute capability {}; driver for CUDA {}.",
            device["name"].as_str().unwrap_or("?"),
            number(&device["memory_bytes"]) / f64::from(1 << 30),
            device["compute_capability"].as_str().unwrap_or("?"),
            report["driver_cuda_version"].as_str().unwrap_or("?")
        );
    }
    let found = report["libraries"].as_array().into_iter().flatten().filter_map(|library| {
        Some(format!("{} {}", library["name"].as_str()?, library["version"].as_str()?))
    });
    say!(
        out,
        "{}. gpu-check {}.",
        found.collect::<Vec<_>>().join(", "),
        report["gpu_check"].as_str().unwrap_or("?")
    );
    for rate in passed(lines, "most that the device can") {
        match (rate["dtype"].as_str(), rate["gb_per_s"].as_f64()) {
            (Some(dtype), _) => {
                say!(out, "Products of {}², {dtype}: {:.0} TFLOP/s.", rate["n"], number(&rate["tflops"]))
            }
            (None, Some(gb)) => say!(out, "Copy: {gb:.0} GB/s."),
            _ => {}
        }
    }
}

/// What PyTorch and ours must have in common.
fn setting(row: &Value) -> [&Value; 5] {
    ["depth", "width", "batch", "outer", "inner"].map(|name| &row[name])
}

fn iterations(out: &mut String, lines: &[Line]) {
    let (ours, torch) = (passed(lines, "training iteration"), passed(lines, "PyTorch"));
    if ours.is_empty() && torch.is_empty() {
        return;
    }
    say!(
        out,
        "\n## Training iteration\n\n| network | by | precision | ms | TFLOP/s | GiB of buffers |\n|---|---|---|---|---|---|"
    );
    let gib = |bytes: &Value| {
        bytes.as_f64().map_or("—".to_owned(), |bytes| format!("{:.2}", bytes / f64::from(1 << 30)))
    };
    for row in &ours {
        let (ms, gib) = (1e3 * number(&row["median_s"]), gib(&row["peak_bytes"]));
        let name = |key: &str| row[key].as_str().unwrap_or("?").to_owned();
        let graph = if row["capture_refused"].is_null() { "" } else { " WITHOUT A GRAPH" };
        let one = if row["branches"] == false { ", one stream" } else { "" };
        let norm = if row["batch_norm"] == "cudnn" { ", cuDNN's batch norm" } else { "" };
        let tflops = number(&row["tflops"]);
        say!(
            out,
            "| {} | jempp{norm}{one}{graph} | {} | {ms:.2} | {tflops:.0} | {gib} |",
            name("network"),
            name("precision")
        );
    }
    for row in &torch {
        let bytes = if row["mode"] == "eager" { "allocated_bytes" } else { "reserved_bytes" };
        let (ms, gib) = (1e3 * number(&row["median_s"]), gib(&row[bytes]));
        let name = |key: &str| row[key].as_str().unwrap_or("?").to_owned();
        say!(
            out,
            "| {} | PyTorch {} | {} | {ms:.2} | | {gib} |",
            name("network"),
            name("mode"),
            name("precision")
        );
    }
    let peak = passed(lines, "most that the device can").into_iter().find(|p| p["dtype"] == "bf16");
    for row in ours.iter().filter(|row| row["precision"] == "bf16") {
        for (what, value, target, met) in ratios(row, &torch, peak) {
            let met = if met { "met" } else { "MISSED" };
            say!(
                out,
                "\n{}: {what} {value:.2}, target {target}: {met}.",
                row["network"].as_str().unwrap_or("?")
            );
        }
    }
}

/// What is compared, the ratio, its target, and whether that is met.
fn ratios(ours: &Value, torch: &[&Value], peak: Option<&Value>) -> Vec<(&'static str, f64, f64, bool)> {
    let same = |row: &&&Value| setting(row) == setting(ours) && row["precision"] == ours["precision"];
    let theirs: Vec<&&Value> = torch.iter().filter(same).collect();
    let least = |modes: &[&str], key: &str| {
        let of = theirs.iter().filter(|row| row["mode"].as_str().is_some_and(|mode| modes.contains(&mode)));
        of.filter_map(|row| row[key].as_f64()).min_by(f64::total_cmp)
    };
    let mut out = Vec::new();
    let mine = number(&ours["median_s"]);
    if let Some(seconds) = least(&["eager"], "median_s") {
        out.push(("times as fast as eager PyTorch", seconds / mine, EAGER, seconds / mine >= EAGER));
    }
    if let Some(seconds) = least(&["compile", "graph"], "median_s") {
        out.push(("times as fast as compiled PyTorch", seconds / mine, COMPILED, seconds / mine >= COMPILED));
    }
    // Between replays the tensors of a graph do not count as allocated.
    let memory = [least(&["eager"], "allocated_bytes"), least(&["compile", "graph"], "reserved_bytes")];
    if let Some(bytes) = memory.into_iter().flatten().min_by(f64::total_cmp) {
        let ratio = number(&ours["peak_bytes"]) / bytes;
        out.push(("of PyTorch's memory", ratio, MEMORY, ratio <= MEMORY));
    }
    if let Some(peak) = peak {
        let share = number(&ours["tflops"]) / number(&peak["tflops"]);
        out.push(("of the bf16 peak", share, PEAK, share >= PEAK));
    }
    out
}

fn profiles(out: &mut String, lines: &[Line]) {
    for profile in passed(lines, "what bounds an iteration") {
        say!(
            out,
            "\n## {} node by node\n\n{:.2} ms an iteration, {:.2} ms node by node, {:.2} ms at least; no work measures {:.1} µs.\n",
            profile["title"].as_str().unwrap_or("An iteration"),
            1e3 * number(&profile["iteration_s"]),
            1e3 * number(&profile["nodes_s"]),
            1e3 * number(&profile["least_s"]),
            1e6 * number(&profile["nothing_s"])
        );
        say!(out, "| node | runs | ms | least ms | bound by |\n|---|---|---|---|---|");
        for node in profile["nodes"].as_array().into_iter().flatten().take(ROWS) {
            let ms = |key: &str| 1e3 * number(&node[key]);
            let (name, bound) = (node["node"].as_str().unwrap_or("?"), node["bound"].as_str().unwrap_or("?"));
            let runs = number(&node["runs"]);
            say!(out, "| {name} | {runs:.0} | {:.3} | {:.3} | {bound} |", ms("measured_s"), ms("least_s"));
        }
    }
}

fn convolutions(out: &mut String, lines: &[Line]) {
    let jobs = ["bf16", "tf32", "f32"].map(|p| format!("convolutions {p}"));
    for job in jobs {
        let rows: Vec<&Line> =
            journal::checks(lines, &job).into_iter().filter(|l| l.text("status") == "ok").collect();
        if rows.is_empty() {
            continue;
        }
        say!(
            out,
            "\n## {job}: TFLOP/s and engine\n\n| | forward | input gradient | filter gradient |\n|---|---|---|---|"
        );
        let mut shapes: Vec<&str> = Vec::new();
        for row in &rows {
            let shape = row.text("name").rsplit_once(", ").map_or("", |(shape, _)| shape);
            if !shapes.contains(&shape) {
                shapes.push(shape);
            }
        }
        for shape in shapes {
            let cell = |pass: &str| {
                let name = format!("{shape}, {pass}");
                let data = rows.iter().find(|row| row.text("name") == name).map(|row| &row.value["data"]);
                data.map_or("—".to_owned(), |data| {
                    format!("{:.0} {}", number(&data["tflops"]), data["engine"].as_str().unwrap_or("?"))
                })
            };
            let cells = ["forward", "input gradient", "filter gradient"].map(cell);
            say!(out, "| {shape} | {} |", cells.join(" | "));
        }
    }
}

fn comparisons(out: &mut String, lines: &[Line], jobs: &[Job]) {
    say!(
        out,
        "\n## Comparisons\n\n| | ok | not ok | largest difference | of allowed |\n|---|---|---|---|---|"
    );
    for job in jobs.iter().filter(|job| matches!(job.stage, Stage::Probe | Stage::Parity | Stage::Training)) {
        let found = journal::checks(lines, &job.to_string());
        let ok = found.iter().filter(|l| l.text("status") == "ok").count();
        let worst = found.iter().filter_map(|l| {
            let data = &l.value["data"];
            let each = data["differences"].as_array().map(|d| d.iter().map(number).fold(0.0, f64::max));
            Some((data["largest_difference"].as_f64().or(each)?, data["tolerance"].as_f64()?))
        });
        let worst = worst.max_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        let words = worst.map_or(" | ".to_owned(), |(off, most)| format!("{off:.1e} | {most:.0e}"));
        say!(out, "| {job} | {ok} | {} | {words} |", found.len() - ok);
    }
}

fn failures(out: &mut String, lines: &[Line], jobs: &[Job]) {
    let wrong = |l: &&Line| l.text("event") == "check" && l.text("status") != "ok";
    let found =
        |job: &Job| journal::checks(lines, &job.to_string()).into_iter().filter(wrong).collect::<Vec<_>>();
    let all: Vec<&Line> = jobs.iter().flat_map(found).collect();
    if all.is_empty() {
        return;
    }
    say!(out, "\n## Failed or skipped: {}\n", all.len());
    for line in all.iter().take(FAILED) {
        let detail: String =
            line.text("detail").lines().next().unwrap_or_default().chars().take(200).collect();
        say!(out, "- {} · {} · {}: {detail}", line.text("job"), line.text("name"), line.text("status"));
    }
    if all.len() > FAILED {
        say!(out, "- and {} more", all.len() - FAILED);
    }
}

fn missing(out: &mut String, lines: &[Line], jobs: &[Job]) {
    let mut listed = Vec::new();
    for job in jobs.iter().filter(|job| !is_complete(lines, job)) {
        let name = job.to_string();
        let ended = lines.iter().rev().find(|l| l.is("ended", &name)).map(|l| l.text("how"));
        for died in journal::checks(lines, &name).iter().filter(|l| l.text("event") == "started") {
            listed.push(format!("{name}: the process ended during “{}”", died.text("name")));
        }
        if lines.iter().any(|l| l.is("finished", &name)) {
            continue;
        }
        listed.push(match ended {
            Some(how) => format!("{name}: not run to its end: {how}"),
            None => format!("{name}: not begun"),
        });
    }
    let all = if listed.is_empty() { "nothing" } else { "" };
    say!(out, "\n## Missing: {all}\n");
    for line in listed {
        say!(out, "- {line}");
    }
}

fn notes(out: &mut String, lines: &[Line]) {
    let mut notes: Vec<&str> =
        lines.iter().filter(|l| l.text("event") == "note").map(|l| l.text("text")).collect();
    notes.sort_unstable();
    notes.dedup();
    for note in notes {
        say!(out, "\nNote: {note}.");
    }
}

#[cfg(test)]
mod tests;
