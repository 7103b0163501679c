//! `jempp-cli train`.

use super::{builder, bytes, json, print};
use crate::args::{Global, Train};
use crate::progress::{StepProgress, TrainProgress, duration, note};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use jempp::config::{Config, ConfigBuilder, with_advice};
use jempp::devices::{keep_choices, recall_choices};
use jempp::run::{Folder, Limits, Observer, Outline, Report, TrainingRun, latest_unfinished};
use jempp::train::adopt_network;
use jempp::{Error, Result};
use jempp_data::{Loaded, Origin, Reading, load_with};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Trains, or prints what training would do.
pub(crate) fn run(global: &Global, a: &Train) -> Result<ExitCode> {
    if let Some(run) = &a.resume {
        return resume(global, a, run);
    }
    let mut builder = builder(global, "digits", a.config.as_deref(), &a.overrides)?;
    adopt_network(&mut builder)?;
    let warm = !builder.config().train.from.is_empty();
    if a.print_config {
        let config = if builder.is_open() || warm { load(global, builder)?.0 } else { builder.finish()? };
        print(&config.to_toml()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let device = global.device()?;
    if let Some(out) = a.out.as_deref().filter(|p| p.exists()) {
        return Err(Error::Exists(out.to_path_buf()));
    }
    let (config, data) = load(global, builder)?;
    let training = TrainingRun::with_data(&config, &device, data.set, data.split);
    let mut training = training.map_err(|e| with_advice(e, &config))?;
    training.limit(&limits(a));
    if a.dry_run {
        let free = device.free_memory();
        let seconds = jempp_bench::iteration_seconds(&mut training)?;
        print(&outline(&training.outline(), seconds, free))?;
        return Ok(ExitCode::SUCCESS);
    }
    let folder = match &a.out {
        Some(out) => Folder::create(out)?,
        None => Folder::next(Path::new("runs"))?,
    };
    train(global, a, training, &folder, &[])
}

/// Reads the data set, and completes the configuration from it: image size and classes.
fn load(global: &Global, builder: ConfigBuilder) -> Result<(Config, Loaded)> {
    let mut steps = StepProgress::new(global, "images decoded");
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

/// Resumes a run.
fn resume(global: &Global, a: &Train, run: &Path) -> Result<ExitCode> {
    let run =
        if run == Path::new("auto") { latest_unfinished(Path::new("runs"))? } else { run.to_path_buf() };
    let device = global.device()?;
    recall_choices(&device, &run);
    let (mut training, folder, warnings) = TrainingRun::resume(&run, &device, &a.overrides)?;
    training.limit(&limits(a));
    train(global, a, training, &folder, &warnings)
}

fn train(
    global: &Global,
    a: &Train,
    training: TrainingRun,
    folder: &Folder,
    warnings: &[String],
) -> Result<ExitCode> {
    let stop = StopFlag::on_signals()?;
    let device = training.train_step().device().clone();
    keep_choices(&device, folder.path())?;
    let mut progress = TrainProgress::new(global, folder);
    warnings.iter().for_each(|w| progress.warn(w));
    let result = training.run(folder, &mut progress, &stop.requested);
    drop(progress);
    // Evaluation compiles programs of its own, so there may be more choices to keep.
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

/// Set by Ctrl-C (SIGINT) and SIGTERM.
struct StopFlag {
    requested: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl StopFlag {
    /// The first signal requests a stop after the current iteration; a second one exits at once.
    fn on_signals() -> Result<Self> {
        let stop = Self { requested: Arc::default(), signal: Arc::default() };
        for signal in [SIGINT, SIGTERM] {
            let fail = |e| Error::Internal(format!("signal handler: {e}"));
            let requested = || Arc::clone(&stop.requested);
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, requested())
                .map_err(fail)?;
            signal_hook::flag::register_usize(signal, Arc::clone(&stop.signal), signal as usize)
                .map_err(fail)?;
            signal_hook::flag::register(signal, requested()).map_err(fail)?;
        }
        Ok(stop)
    }
}

fn outline(o: &Outline, (seconds, measured): (f64, bool), free: Option<u64>) -> String {
    let f = o.footprint;
    let [per_epoch, total] = o.iterations;
    let [train, valid, test] = o.images;
    let rate = f.flops as f64 / seconds / 1e9;
    let how = if measured { "measured on the second iteration" } else { "estimated from a small batch" };
    format!(
        "data          {}: {train} training, {valid} validation and {test} test images\n\
         device        {}\n\
         parameters    {}\n\
         memory        {} for state, {} for activations and workspace{}\n\
         work          {:.2} GFLOP per iteration, {per_epoch} iterations per epoch, {total} in total\n\
         speed         {:.1} ms per iteration ({rate:.0} GFLOP/s), {how}\n\
         time          {} per epoch, {} in total\n",
        o.dataset,
        o.device,
        f.parameters,
        bytes(f.state_bytes),
        bytes(f.program_bytes),
        free.map(|n| format!("; fits, {} free", bytes(n))).unwrap_or_default(),
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
            "gap                {mean:+.3}  mean log p(x), data minus chains, last 200 iterations (largest {worst:.2})\n"
        );
    }
    if r.rollbacks > 0 {
        out += &format!("rollbacks          {}  (see metrics.jsonl)\n", r.rollbacks);
    }
    let (time, run) = (duration(r.training_seconds), r.folder.display());
    out += &format!("trained            {} iterations in {time}\n\nrun folder         {run}\n", r.iterations);
    if let Some(grid) = r.grids.last() {
        out += &format!("samples            {}  (one row per class)\n", grid.display());
    }
    out += &format!("learning curves    {run}/plots/learning.svg\n");
    out += &format!(
        "\nNext:\n\
         \x20 jempp-cli sample --model {run}             draw new images\n\
         \x20 jempp-cli eval accuracy --model {run}      evaluate it again\n\
         \x20 jempp-cli inspect {run}                    show what the model contains\n"
    );
    out
}
