//! `jempp-cli bench`.

use super::{bytes, configuration, print};
use crate::args::{Bench, BenchCommand, Global, Ops, SampleStep, TrainStep};
use crate::progress::StepProgress;
use jempp::config::{Config, with_advice};
use jempp::{Error, Result};
use jempp_bench::{
    Ceiling, NodeTiming, Row, StepTiming, profile, render, rows, sample_step, synthetic_run, train_step,
};
use serde_json::json;
use std::path::Path;

/// A smaller network, used if no preset is named: an iteration of the published one takes a minute on a laptop.
const SMALL: [&str; 2] = ["model.depth=16", "model.widen_factor=2"];

/// Runs a measurement.
pub(crate) fn run(global: &Global, a: &Bench) -> Result<()> {
    match &a.command {
        BenchCommand::TrainStep(a) => time_train_step(global, a),
        BenchCommand::SampleStep(a) => time_sample_step(global, a),
        BenchCommand::Ops(a) => time_ops(global, a),
    }
}

/// The configuration from file and overrides; the small network if neither a file nor a preset is named.
fn bench_config(global: &Global, file: Option<&Path>, overrides: &[String]) -> Result<Config> {
    let whole = file.is_some() || overrides.iter().any(|o| o.trim_start().starts_with("preset"));
    let small = SMALL.iter().filter(|_| !whole).map(ToString::to_string);
    let overrides: Vec<String> = small.chain(overrides.iter().cloned()).collect();
    configuration(global, "jempp", file, &overrides)
}

fn time_ops(global: &Global, a: &Ops) -> Result<()> {
    let device = global.device()?;
    let filter = a.filter.as_deref().or(a.only.as_deref());
    if jempp_bench::cases(filter).is_empty() {
        let ops: Vec<&str> = jempp::engine::ops::registry().into_iter().map(|(op, _)| op).collect();
        let filter = filter.unwrap_or_default();
        return Err(Error::Config(format!("no benchmark case matches `{filter}`; ops: {}", ops.join(", "))));
    }
    let ceiling = Ceiling::measure(&device);
    let mut steps = StepProgress::new(global, "cases");
    let mut progress = |done: usize, total: usize, _: &str| steps.step(done as u32, total as u32);
    let rows = rows(&device, &ceiling, filter, &mut progress)?;
    if a.json {
        let rows: Vec<_> = rows.iter().map(Row::json).collect();
        let all = json!({ "device": device.to_string(), "ceiling": ceiling.json(), "rows": rows });
        return print(&format!("{all}\n"));
    }
    print(&format!("{device}\n{}\n\n{}", ceiling.describe(), render(&rows)))
}

fn time_sample_step(global: &Global, a: &SampleStep) -> Result<()> {
    let config = bench_config(global, a.config.as_deref(), &a.overrides)?;
    let device = global.device()?;
    let mut steps = StepProgress::new(global, "batch sizes");
    let total = a.batch.len() as u32;
    let mut all = Vec::new();
    for (done, n) in (1..).zip(&a.batch) {
        all.push(sample_step(&config, &device, *n, a.warmup, a.steps)?);
        steps.step(done, total);
    }
    if a.json {
        return print(&format!("{}\n", json!({ "device": device.to_string(), "steps": all })));
    }
    let mut out = format!(
        "device  {device}\n\n{:>6} {:>12} {:>12} {:>10} {:>9} {:>10}\n",
        "chains", "median", "fastest", "images/s", "GFLOP/s", "memory"
    );
    for t in all {
        out += &format!(
            "{:>6} {:>9.3} ms {:>9.3} ms {:>10.1} {:>9.1} {:>10}\n",
            t.batch,
            1e3 * t.median_s,
            1e3 * t.min_s,
            t.images_per_second,
            t.gflops,
            bytes(t.planned_bytes)
        );
    }
    print(&out)
}

fn time_train_step(global: &Global, a: &TrainStep) -> Result<()> {
    let config = bench_config(global, a.config.as_deref(), &a.overrides)?;
    let training = synthetic_run(&config, &global.device()?);
    let mut training = training.map_err(|e| with_advice(e, &config))?;
    if a.print_plan {
        let plan = training.train_step().dump();
        if a.json { eprintln!("{plan}") } else { print(&plan)? }
    }
    let timing = train_step(&mut training, a.warmup, a.iters)?;
    let nodes = if a.profile { profile(&mut training, a.iters)? } else { Vec::new() };
    if a.json {
        let mut line = json!(timing);
        if a.profile {
            line["profile"] = json!(nodes);
        }
        return print(&format!("{line}\n"));
    }
    print(&text(&timing))?;
    if a.profile { print(&table(&nodes)) } else { Ok(()) }
}

/// Time per op, the slowest first.
fn table(nodes: &[NodeTiming]) -> String {
    let all: f64 = nodes.iter().map(|n| n.seconds).sum();
    let mut out =
        format!("\n{:<22} {:>6} {:>10} {:>6} {:>9} {:>8}\n", "op", "nodes", "ms", "%", "GFLOP/s", "GB/s");
    for n in nodes {
        out += &format!(
            "{:<22} {:>6.0} {:>10.3} {:>6.1} {:>9.1} {:>8.1}\n",
            n.op,
            n.runs,
            1e3 * n.seconds,
            100.0 * n.seconds / all.max(1e-12),
            n.flops / n.seconds / 1e9,
            n.bytes / n.seconds / 1e9
        );
    }
    out + &format!("{:<22} {:>6} {:>10.3}\n", "all", "", 1e3 * all)
}

fn text(t: &StepTiming) -> String {
    let ms = |s: f64| format!("{:.2} ms", s * 1e3);
    format!(
        "device        {}\nparameters    {}\nmemory        {} for state, {} for activations and workspace\n\
         work          {:.2} GFLOP per iteration\niteration     {} (median of {} after {} warm-up; fastest {})\n\
         speed         {:.1} GFLOP/s, {:.1} images/s\n",
        t.device,
        t.parameters,
        bytes(t.state_bytes),
        bytes(t.planned_bytes),
        t.flops as f64 / 1e9,
        ms(t.median_s),
        t.iterations,
        t.warmup,
        ms(t.min_s),
        t.gflops,
        t.images_per_second
    )
}
