//! `jempp-cli train`.

mod stop;
mod text;

use super::series::{self, Series};
use super::{Sources, json, print};
use crate::args::{Global, Train};
use crate::invocation;
use crate::progress::{StepProgress, TrainProgress, note};
use jempp::config::{Config, ConfigBuilder, with_advice};
use jempp::devices::{keep_choices, recall_choices};
use jempp::run::{Folder, Limits, Observer, Report, TrainingRun, latest_unfinished};
use jempp::train::adopt_network;
use jempp::{Error, Result};
use jempp_data::{Loaded, Origin, Reading, load_with};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
pub(super) use stop::StopFlag;

/// Trains, or prints what training would do.
pub(crate) fn run(global: &Global, a: &Train) -> Result<ExitCode> {
    let limits = Limits { time: a.max_time, batches: a.limit_batches };
    if let Some(run) = &a.resume {
        return match series::is_series(run) {
            true => series::resume(global, run, limits, a.json),
            false => resume(global, a, run, limits),
        };
    }
    let sources = Sources::read("digits", a.config.as_deref())?;
    if let Some(seeds) = &a.seeds {
        let series = Series::of_seeds(global, sources, &a.overrides, seeds)?;
        return series::run(global, &series, a.out.as_deref(), limits, a.json);
    }
    let mut builder = sources.builder(global, &a.overrides)?;
    adopt_network(&mut builder)?;
    let warm = !builder.config().train.from.is_empty();
    if a.print_config {
        let config = if builder.is_open() || warm { load(global, builder)?.0 } else { builder.finish()? };
        print(&config.to_toml()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(out) = a.out.as_deref().filter(|p| p.exists()) {
        return Err(Error::Exists(out.to_path_buf()));
    }
    let mut training = prepare(global, builder)?;
    training.limit(&limits);
    if a.dry_run {
        let free = training.train_step().device().free_memory();
        let seconds = jempp_bench::iteration_seconds(&mut training)?;
        print(&text::outline(&training.outline(), seconds, free))?;
        return Ok(ExitCode::SUCCESS);
    }
    let folder = match &a.out {
        Some(out) => Folder::create(out)?,
        None => Folder::next(Path::new("runs"))?,
    };
    train(global, a, training, &folder, &[])
}

/// A run of the configuration, on its data set.
pub(super) fn prepare(global: &Global, mut builder: ConfigBuilder) -> Result<TrainingRun> {
    adopt_network(&mut builder)?;
    let device = global.device()?;
    let (config, data) = load(global, builder)?;
    let training = TrainingRun::with_data(&config, &device, data.set, data.split);
    training.map_err(|e| with_advice(e, &config))
}

/// Reads the data set, and completes the configuration from it: image size and classes.
fn load(global: &Global, builder: ConfigBuilder) -> Result<(Config, Loaded)> {
    let mut steps = StepProgress::new(global, "images decoded");
    let progress = |done: usize, all: usize| steps.step(done as u32, all as u32);
    let default_valid_size = builder.default_valid_size();
    let progress = Box::new(progress);
    let reading = Reading { threads: global.threads, progress, default_valid_size, ..Reading::default() };
    let data = load_with(&builder.data(), reading)?;
    for warning in &data.warnings {
        note(global, &format!("warning: {warning}"));
    }
    if data.origin != Origin::BuiltIn {
        note(global, &data.summary());
    }
    let config = builder.fit_to(&data)?;
    Ok((config, data))
}

/// Resumes a run.
fn resume(global: &Global, a: &Train, run: &Path, limits: Limits) -> Result<ExitCode> {
    let run: PathBuf =
        if run == Path::new("auto") { latest_unfinished(Path::new("runs"))? } else { run.to_path_buf() };
    let (mut training, folder, warnings) = resumed(global, &run, &a.overrides)?;
    training.limit(&limits);
    train(global, a, training, &folder, &warnings)
}

/// The run in a folder, at its last checkpoint, its locked folder, and warnings.
pub(super) fn resumed(
    global: &Global,
    run: &Path,
    overrides: &[String],
) -> Result<(TrainingRun, Folder, Vec<String>)> {
    let device = global.device()?;
    recall_choices(&device, run);
    TrainingRun::resume(run, &device, overrides)
}

fn train(
    global: &Global,
    a: &Train,
    training: TrainingRun,
    folder: &Folder,
    warnings: &[String],
) -> Result<ExitCode> {
    let stop = StopFlag::on_signals()?;
    let report = match trained(global, training, folder, warnings, &stop) {
        Err(Error::Cancelled) => {
            let (program, run) = (invocation::program(), invocation::path(folder.path()));
            note(global, &format!("stopped; to go on:\n  {program} train --resume {run}"));
            return Ok(stop.exit_code());
        }
        result => result?,
    };
    if a.json {
        print(&format!("{}\n", json(&report)?))?;
    } else {
        print(&text::summary(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Trains into the folder, showing progress.
///
/// # Errors
/// Those of [`TrainingRun::run`].
pub(super) fn trained(
    global: &Global,
    training: TrainingRun,
    folder: &Folder,
    warnings: &[String],
    stop: &StopFlag,
) -> Result<Report> {
    let device = training.train_step().device().clone();
    keep_choices(&device, folder.path())?;
    let mut progress = TrainProgress::new(global, folder);
    warnings.iter().for_each(|w| progress.warn(w));
    let result = training.run(folder, &mut progress, stop.requested());
    drop(progress);
    // Evaluation compiles programs of its own, so there may be more choices to keep.
    keep_choices(&device, folder.path())?;
    result
}
