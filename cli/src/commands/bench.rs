//! `jempp-cli bench`.

use super::{bytes, configuration, print};
use crate::args::{Bench, BenchCommand, Global, TrainStep};
use jempp::Result;
use jempp::bench::{NodeTiming, StepTiming, profile, synthetic_session, train_step};
use serde_json::json;

/// What the network shrinks to where no preset is named: the published one takes a minute an iteration on a laptop.
const SMALL: [&str; 2] = ["model.depth=16", "model.widen_factor=2"];

/// Measures.
pub fn run(global: &Global, a: &Bench) -> Result<()> {
    match &a.command {
        BenchCommand::TrainStep(a) => time_train_step(global, a),
    }
}

fn time_train_step(global: &Global, a: &TrainStep) -> Result<()> {
    let whole = a.config.is_some() || a.overrides.iter().any(|o| o.trim_start().starts_with("preset"));
    let small = SMALL.iter().filter(|_| !whole).map(ToString::to_string);
    let overrides: Vec<String> = small.chain(a.overrides.iter().cloned()).collect();
    let config = configuration(global, "jempp", a.config.as_deref(), &overrides)?;
    let session = synthetic_session(&config, &global.device()?);
    let mut session = session.map_err(|e| e.with_advice(&config))?;
    if a.dump {
        let dump = session.trainer().dump();
        if a.json { eprintln!("{dump}") } else { print(&dump)? }
    }
    let timing = train_step(&mut session, a.warmup, a.iters)?;
    let nodes = if a.profile { profile(&mut session, a.iters)? } else { Vec::new() };
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

/// Where the time goes, the longest first.
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
        "device        {}\nparameters    {}\nmemory        {} of state, {} of programs\n\
         work          {:.2} GFLOP an iteration\niteration     {} (median of {}, after {} to warm up; fewest {})\n\
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
