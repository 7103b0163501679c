//! `jempp-cli train`.

use super::{builder, bytes, duration, json, print};
use crate::args::{Global, Train};
use crate::progress::{Follower, Steps, note};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use jempp::config::{Config, ConfigBuilder, with_advice};
use jempp::devices::{keep_choices, recall_choices};
use jempp::run::{Folder, Limits, Observer, Outline, Report, Session, latest_unfinished};
use jempp::{Error, Result};
use jempp_data::{Loaded, Origin, Reading, load_with};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Trains, or says what training would be.
pub fn run(global: &Global, a: &Train) -> Result<ExitCode> {
    if let Some(run) = &a.resume {
        return resume(global, a, run);
    }
    let builder = builder(global, "digits", a.config.as_deref(), &a.overrides)?;
    if a.print_config {
        let config = if builder.is_open() { load(global, builder)?.0 } else { builder.finish()? };
        print(&config.to_toml()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let device = global.device()?;
    if let Some(out) = a.out.as_deref().filter(|p| p.exists()) {
        return Err(Error::Exists(out.to_path_buf()));
    }
    let (config, data) = load(global, builder)?;
    let session = Session::with_data(&config, &device, data.set, data.split);
    let mut session = session.map_err(|e| with_advice(e, &config))?;
    session.limit(&limits(a));
    if a.dry_run {
        let free = device.free_memory();
        let seconds = jempp_bench::iteration_seconds(&mut session)?;
        print(&outline(&session.outline(), seconds, free))?;
        return Ok(ExitCode::SUCCESS);
    }
    let folder = match &a.out {
        Some(out) => Folder::create(out)?,
        None => Folder::next(Path::new("runs"))?,
    };
    go(global, a, session, &folder, &[])
}

/// Reads the data set, and takes image size and classes from it where the configuration leaves them open.
fn load(global: &Global, builder: ConfigBuilder) -> Result<(Config, Loaded)> {
    let mut steps = Steps::new(global, "images decoded");
    let progress = |done: usize, all: usize| steps.step(done as u32, all as u32);
    let reading = Reading { threads: global.threads, progress: Box::new(progress), ..Reading::default() };
    let data = load_with(&builder.data(), reading)?;
    for warning in &data.warnings {
        note(global, &format!("warning: {warning}"));
    }
    if data.origin != Origin::BuiltIn {
        note(global, &data.summary());
    }
    let config = builder.fit(data.set.size(), data.set.classes())?;
    Ok((config, data))
}

fn limits(a: &Train) -> Limits {
    Limits { time: a.max_time, batches: a.limit_batches }
}

/// Goes on with a run.
fn resume(global: &Global, a: &Train, run: &Path) -> Result<ExitCode> {
    let run =
        if run == Path::new("auto") { latest_unfinished(Path::new("runs"))? } else { run.to_path_buf() };
    let device = global.device()?;
    recall_choices(&device, &run);
    let (mut session, folder, warnings) = Session::resume(&run, &device, &a.overrides)?;
    session.limit(&limits(a));
    go(global, a, session, &folder, &warnings)
}

fn go(
    global: &Global,
    a: &Train,
    session: Session,
    folder: &Folder,
    warnings: &[String],
) -> Result<ExitCode> {
    let stop = Stop::on_signals()?;
    let device = session.trainer().device().clone();
    keep_choices(&device, folder.path())?;
    let mut follower = Follower::new(global, folder);
    warnings.iter().for_each(|w| follower.warn(w));
    let result = session.run(folder, &mut follower, &stop.asked);
    drop(follower);
    // Evaluation has programs of its own.
    keep_choices(&device, folder.path())?;
    let report = match result {
        Err(e @ Error::Cancelled) if stop.signal.load(Ordering::Relaxed) == SIGTERM as usize => {
            eprintln!("error: {e}");
            return Ok(ExitCode::from(128 + SIGTERM as u8));
        }
        result => result?,
    };
    if a.json {
        print(&format!("{}\n", json(&report)?))?;
    } else {
        print(&summary(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What Ctrl-C (SIGINT) and SIGTERM set.
struct Stop {
    asked: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// The first signal asks for a stop after the iteration; a second one stops at once.
    fn on_signals() -> Result<Self> {
        let stop = Self { asked: Arc::default(), signal: Arc::default() };
        for signal in [SIGINT, SIGTERM] {
            let fail = |e| Error::Internal(format!("signal handler: {e}"));
            let asked = || Arc::clone(&stop.asked);
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, asked()).map_err(fail)?;
            signal_hook::flag::register_usize(signal, Arc::clone(&stop.signal), signal as usize)
                .map_err(fail)?;
            signal_hook::flag::register(signal, asked()).map_err(fail)?;
        }
        Ok(stop)
    }
}

fn outline(o: &Outline, (seconds, measured): (f64, bool), free: Option<u64>) -> String {
    let f = o.footprint;
    let [per_epoch, total] = o.iterations;
    let [train, valid, test] = o.images;
    let rate = f.flops as f64 / seconds / 1e9;
    let how = if measured { "measured on the second" } else { "estimated from a small batch" };
    format!(
        "data          {}: {train} to train on, {valid} to validate, {test} to test\n\
         device        {}\n\
         parameters    {}\n\
         memory        {} of state, {} of programs{}\n\
         work          {:.2} GFLOP an iteration, {per_epoch} iterations an epoch, {total} in all\n\
         speed         {:.1} ms an iteration ({rate:.0} GFLOP/s), {how}\n\
         time          {} an epoch, {} in all\n",
        o.dataset,
        o.device,
        f.parameters,
        bytes(f.state_bytes),
        bytes(f.program_bytes),
        free.map(|n| format!("; they fit, {} free beside them", bytes(n))).unwrap_or_default(),
        f.flops as f64 / 1e9,
        seconds * 1e3,
        duration(seconds * per_epoch as f64),
        duration(seconds * total as f64),
    )
}

fn summary(r: &Report) -> String {
    let c = &r.test.classification;
    let mut out = format!("\ntest accuracy      {:.4}  ({} images)\n", c.accuracy, c.n);
    out += &format!("calibration error  {:.4}  (ECE, {} bins)\n", c.ece, c.ece_bins);
    for d in &r.test.detection {
        out += &format!("AUROC of log p(x)  {:.4}  against {}\n", d.auroc_log_density, d.against);
    }
    if let Some([mean, worst]) = r.gap {
        out += &format!(
            "gap                {mean:+.3}  mean log p(x) of data − chains, last 200 iterations (largest {worst:.2})\n"
        );
    }
    let (time, run) = (duration(r.training_seconds), r.folder.display());
    out += &format!("trained            {} iterations in {time}\n\nrun folder         {run}\n", r.iterations);
    if let Some(grid) = r.grids.last() {
        out += &format!("samples            {}  (one row a class)\n", grid.display());
    }
    out += &format!("learning curves    {run}/plots/learning.svg\n");
    out += &format!(
        "\nNext:\n\
         \x20 jempp-cli sample --model {run}             draw new images\n\
         \x20 jempp-cli eval accuracy --model {run}      judge it again\n\
         \x20 jempp-cli inspect {run}                    what the model is\n"
    );
    out
}
