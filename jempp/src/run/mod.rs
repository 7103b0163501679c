//! A training run: data, training steps, evaluation, and the folder with the results.
//!
//! Invariants: a new run never writes into an existing folder; a checkpoint never holds a value that is not finite; whatever
//! ends the run, the results written before are kept.

pub mod curves;
mod divergence;
mod epoch;
mod finish;
mod folder;
mod grids;
mod history;
mod loaders;
mod report;
mod resume;
mod schedule;
mod stages;
mod status;
mod tensorboard;
pub mod thresholds;
mod warnings;

#[cfg(test)]
mod tests;

use crate::config::{Config, EvalBn};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::train::{BatchIndices, Guard, Options, StepMetrics, TrainState, TrainStep, WarmStart};
use crate::train::{served_bn, served_model};
use core::sync::atomic::{AtomicBool, Ordering};
use engine::Device;
pub use folder::{Folder, last_checkpoint};
pub use history::Best;
use history::History;
use jempp_data::{Cursor, Dataset, Loader, Reading, Split};
pub use report::{Ended, Observer, Outline, Progress, Report, Silent};
pub use resume::latest_unfinished;
use serde_json::json;
use stages::Span;
pub use status::{RunStatus, run_status};
use std::time::{Duration, Instant};
use tensorboard::EventLog;
use warnings::GapWatch;

/// A training run that has not started yet.
#[derive(Debug)]
pub struct TrainingRun {
    config: Config,
    step: TrainStep,
    set: Dataset,
    split: Split,
    unlabelled: Loader,
    labelled: Loader,
    /// The stages, and the one that the run is in.
    spans: Vec<Span>,
    stage: usize,
    max_time: Option<Duration>,
    /// The checkpoint that the run was resumed from, until its guard has been restored.
    resumed: Option<TrainState>,
    /// What is known of the model that the weights come from (`train.from`).
    warm: Option<WarmStart>,
    #[cfg(test)]
    fault: Option<divergence::Fault>,
}

/// Limits of a run besides its configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Time after which the run ends, evaluated and saved.
    pub time: Option<Duration>,
    /// The largest number of iterations per epoch.
    pub batches: Option<u64>,
}

/// A run in progress.
struct Running<'a> {
    folder: &'a Folder,
    observer: &'a mut dyn Observer,
    events: EventLog,
    guard: Guard,
    /// What the folder says of the run so far.
    history: History,
    gap_watch: GapWatch,
    /// Iterations that this process has done, some of them undone since.
    done: u64,
    /// When the last metrics arrived, and the seconds of training up to then.
    last: Instant,
    training: f64,
    /// Whether the observer has been told that iterations run without a CUDA graph.
    told_no_graph: bool,
}

impl TrainingRun {
    /// Loads the data set and prepares the first iteration; writes no file.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration is not valid or does not fit the data set; [`Error::Data`] if the data set is
    /// missing, or the model that `train.from` names is or does not fit; [`Error::OutOfMemory`].
    pub fn new(config: &Config, device: &Device) -> Result<Self> {
        config.validate()?;
        let (set, split) = jempp_data::load(&config.data, Reading::on(device))?;
        Self::with_data(config, device, set, split)
    }

    /// Prepares a run on the given data set, as [`TrainingRun::new`] does on the one that the configuration names.
    ///
    /// # Errors
    /// Those of [`TrainingRun::new`].
    pub fn with_data(config: &Config, device: &Device, set: Dataset, split: Split) -> Result<Self> {
        let mut run = Self::prepare(config, device, set, split)?;
        let from = &config.train.from;
        if !from.is_empty() {
            run.warm = Some(run.step.start_from_path(from)?.0);
        }
        Ok(run)
    }

    /// A run with fresh weights, whatever `train.from` says.
    fn prepare(config: &Config, device: &Device, set: Dataset, split: Split) -> Result<Self> {
        config.validate()?;
        config.check_fit(&set)?;
        let spans = stages::spans(config, &split, None)?;
        let first = spans.first().map_or(config, |s| &s.config);
        let [unlabelled, labelled] = loaders::loaders(first, &set, &split)?;
        let step = TrainStep::new(first, device, Some((&set, &split.train)), Options::default())?;
        let (config, stage) = (config.clone(), 0);
        let (max_time, warm, resumed) = (None, None, None);
        Ok(Self {
            config,
            step,
            set,
            split,
            unlabelled,
            labelled,
            spans,
            stage,
            max_time,
            warm,
            resumed,
            #[cfg(test)]
            fault: None,
        })
    }

    /// What the run will do, and its size and cost.
    pub fn outline(&self) -> Outline {
        Outline {
            dataset: self.set.name().to_owned(),
            images: [self.split.train.len(), self.split.valid.len(), self.split.test.len()],
            device: self.step.device().to_string(),
            footprint: self.step.footprint(),
            iterations: [self.span().per_epoch, self.total()],
        }
    }

    /// The training step, with all tensors and the counters.
    pub fn train_step(&self) -> &TrainStep {
        &self.step
    }

    /// Runs `n` iterations without writing a file and returns the seconds of each.
    ///
    /// # Errors
    /// Those of [`TrainStep::launch`].
    pub fn time_iterations(&mut self, n: usize) -> Result<Vec<f64>> {
        (0..n)
            .map(|_| {
                let start = Instant::now();
                self.launch()?;
                self.step.take_metrics()?;
                Ok(start.elapsed().as_secs_f64())
            })
            .collect()
    }

    /// Sets the limits of the run, before it starts.
    pub fn limit(&mut self, limits: &Limits) {
        // The stages have been found valid.
        if let (Some(n), Ok(spans)) =
            (limits.batches, stages::spans(&self.config, &self.split, limits.batches))
        {
            debug_assert!(n == 0 || spans.len() == self.spans.len());
            self.spans = spans;
        }
        self.max_time = limits.time;
    }

    /// Trains into `folder`, from the first iteration or from the checkpoint of [`TrainingRun::resume`]. When training
    /// diverges, it goes back to a good state as `train.on_divergence` says. When `stop` becomes true the run saves a
    /// checkpoint and ends with [`Error::Cancelled`]. At its time limit it is evaluated and saved like a complete run, and can
    /// be resumed; [`Report::ended`] tells them apart.
    ///
    /// # Errors
    /// [`Error::Diverged`] if training diverges and does not recover; [`Error::Cancelled`] if stopped; [`Error::Io`].
    pub fn run(mut self, folder: &Folder, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Report> {
        let began = Instant::now();
        let mut running = self.start(folder, observer)?;
        let mut grids = Vec::new();
        let mut ended = Ended::Complete;
        // A GPU starts the next iteration before the host has the metrics of the last one.
        let ahead = usize::from(self.step.device().is_gpu());
        while self.step.counters().iteration < self.total() {
            if self.step.counters().iteration == self.span().end {
                self.next_stage(&mut running)?;
            }
            if self.out_of_patience(&mut running) {
                ended = Ended::EarlyStopped;
                break;
            }
            self.launch()?;
            let done = self.step.counters().iteration;
            #[cfg(test)]
            self.plant_fault(done)?;
            let stopped = stop.load(Ordering::Relaxed);
            let epoch_ends = self.span().epochs_done(done);
            let late = self.max_time.is_some_and(|limit| began.elapsed() >= limit);
            let pause = stopped || late || epoch_ends.is_some() || done == self.total();
            let failure = match pause || running.guard.is_due(done) {
                true => self.settle(&mut running)?,
                false => self.take_metrics(&mut running, ahead)?,
            };
            if let Some(failure) = failure {
                self.go_back(&mut running, failure)?;
                continue;
            }
            self.note_missing_graph(&mut running);
            // Also before a stop: the run that is resumed must know what an uninterrupted one does.
            if let Some(epoch) = epoch_ends {
                self.epoch_end(&mut running, epoch, &mut grids)?;
                running.last = Instant::now();
            }
            if stopped {
                let at = self.save(&mut running, None, false)?;
                running.observer.note(&format!("stopped after iteration {done}; saved {}", at.display()));
                return Err(Error::Cancelled);
            }
            if late {
                running.observer.note(&format!("the time limit is reached after iteration {done}"));
                ended = if done < self.total() { Ended::TimeLimit } else { Ended::Complete };
                break;
            }
        }
        self.finish(running, grids, ended)
    }

    /// Tells the observer what will be done, and opens the files of the folder.
    fn start<'a>(&mut self, folder: &'a Folder, observer: &'a mut dyn Observer) -> Result<Running<'a>> {
        let first = self.step.counters().iteration;
        if first == 0 {
            folder.begin(&self.config, self.step.device(), &self.set, self.warm.as_ref())?;
        }
        observer.start(&self.outline());
        for note in self.warm.iter().flat_map(|w| &w.notes) {
            observer.note(&format!("train.from: {note}"));
        }
        self.schedule_warnings().iter().for_each(|w| observer.warn(w));
        let mut guard = Guard::new(&self.step, Some(self.cursors()))?;
        if let Some(state) = self.resumed.take() {
            state.restore_guard(&mut guard, &self.step)?;
        }
        let events = EventLog::open(folder.path(), self.config.train.tensorboard, first, observer);
        let (done, training, told_no_graph) = (0, 0.0, false);
        let (history, gap_watch) = (folder.history(self.span().epochs_before)?, GapWatch::default());
        let last = Instant::now();
        Ok(Running {
            folder,
            observer,
            events,
            guard,
            history,
            gap_watch,
            done,
            last,
            training,
            told_no_graph,
        })
    }

    /// Where the loaders stand.
    fn cursors(&self) -> [Cursor; 2] {
        [self.unlabelled.cursor(), self.labelled.cursor()]
    }

    /// Moves the loaders to where they stood.
    fn restore_cursors(&mut self, cursors: Option<[Cursor; 2]>) -> Result<()> {
        let [unlabelled, labelled] =
            cursors.ok_or_else(|| Error::Internal("a state without positions of the loaders".into()))?;
        self.unlabelled.restore(unlabelled)?;
        Ok(self.labelled.restore(labelled)?)
    }

    /// Tells the observer once if iterations run without a CUDA graph.
    fn note_missing_graph(&self, running: &mut Running<'_>) {
        if let (false, Some(why)) = (running.told_no_graph, self.step.capture_refused()) {
            running.observer.note(&format!("iterations run without a CUDA graph, which is slower: {why}"));
            running.told_no_graph = true;
        }
    }

    /// Starts an iteration on the next two batches.
    fn launch(&mut self) -> Result<()> {
        let span = self.span();
        let lr = self.step.learning_rate(span.per_epoch, span.end - span.start);
        let batch = BatchIndices { data: self.unlabelled.next_batch(), labelled: self.labelled.next_batch() };
        self.step.launch(&batch, lr)
    }

    /// Writes the metrics of an iteration and tells the observer.
    fn record_metrics(&self, running: &mut Running<'_>, m: &StepMetrics) -> Result<()> {
        let done = m.step;
        let epoch = self.span().epoch(done);
        running.done += 1;
        let here = running.done as f64;
        let rate = here * self.labelled.batch_size() as f64 / running.training.max(1e-9);
        let left = running.training / here * (self.total() - done) as f64;
        let iterations = [done, self.total()];
        let every = self.step.config().train.log_every.max(1) as u64;
        if done.is_multiple_of(every) || done == self.total() || done == 1 {
            let finite = |v: f64| if v.is_finite() { json!(v) } else { json!(null) };
            running.folder.metrics(&json!({
                "event": "step", "step": done, "epoch": epoch, "loss": m.loss, "ce": m.ce,
                "log_density_data": finite(m.log_density_data), "log_density_chain": finite(m.log_density_chain),
                "gap": finite(m.gap()), "accuracy": m.accuracy, "lr": m.lr, "images_per_second": rate,
            }))?;
            running.events.write(running.observer, |w| tensorboard::iteration(w, m, rate));
        }
        self.watch_gap(running, m)?;
        running.observer.iteration(&Progress {
            epoch,
            iterations,
            metrics: *m,
            images_per_second: rate,
            seconds_left: left,
        });
        Ok(())
    }

    /// A copy of the model as it is now: the weights, or with `train.ema` their average, with the batch-norm statistics that
    /// `eval.bn` names.
    ///
    /// # Errors
    /// [`Error::Data`] if there are too few images to recalibrate on.
    pub fn model(&self) -> Result<Model> {
        served_model(&self.step, Some((&self.set, &self.split)))
    }

    /// The batch-norm statistics of the model; `None` for a network without batch norm.
    fn bn(&self) -> Option<EvalBn> {
        served_bn(&self.step, true)
    }
}
