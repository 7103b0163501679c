//! A training run: data, training steps, evaluation, and the folder with the results.
//!
//! Invariants: a new run never writes into an existing folder; a checkpoint never holds a value that is not finite; whatever
//! ends the run, the results written before are kept.

pub mod curves;
mod folder;
mod grids;
mod loaders;
mod report;
mod resume;
mod tensorboard;
pub mod thresholds;

use crate::config::{Config, EvalBn};
use crate::error::{Error, Result};
use crate::evaluation::{self, ClassificationMetrics, Evaluation};
use crate::model::Model;
use crate::model::thresholds::{ALPHA, Thresholds, least};
use crate::train::{BatchIndices, CollapseDetector, Options, StepMetrics, TrainState, TrainStep};
use crate::train::{describe, served_bn, served_model};
use core::sync::atomic::{AtomicBool, Ordering};
use engine::Device;
pub use folder::{Folder, last_checkpoint};
use jempp_data::{Dataset, Loader, Reading, Split};
pub use report::{Observer, Outline, Progress, Report, Silent};
pub use resume::latest_unfinished;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tensorboard::EventLog;

/// A training run that has not started yet.
#[derive(Debug)]
pub struct TrainingRun {
    config: Config,
    step: TrainStep,
    set: Dataset,
    split: Split,
    unlabelled: Loader,
    labelled: Loader,
    per_epoch: u64,
    total: u64,
    max_time: Option<Duration>,
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
    collapse: CollapseDetector,
    /// Iterations done before it started.
    first: u64,
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
    /// missing; [`Error::OutOfMemory`].
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
        config.validate()?;
        config.check_fit(&set)?;
        let t = &config.train;
        let [unlabelled, labelled] = loaders::loaders(config, &set, &split)?;
        let step = TrainStep::new(config, device, Some((&set, &split.train)), Options::default())?;
        let per_epoch = unlabelled.batches_per_epoch() as u64;
        let all = per_epoch * t.epochs as u64;
        let total = if t.max_iters == 0 { all } else { all.min(t.max_iters as u64) };
        let config = config.clone();
        Ok(Self { config, step, set, split, unlabelled, labelled, per_epoch, total, max_time: None })
    }

    /// What the run will do, and its size and cost.
    pub fn outline(&self) -> Outline {
        Outline {
            dataset: self.set.name().to_owned(),
            images: [self.split.train.len(), self.split.valid.len(), self.split.test.len()],
            device: self.step.device().to_string(),
            footprint: self.step.footprint(),
            iterations: [self.per_epoch, self.total],
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

    /// Sets the limits of the run.
    pub fn limit(&mut self, limits: &Limits) {
        if let Some(n) = limits.batches {
            let epochs = self.total.div_ceil(self.per_epoch);
            self.per_epoch = self.per_epoch.min(n.max(1));
            self.total = self.total.min(epochs * self.per_epoch);
        }
        self.max_time = limits.time;
    }

    /// Trains into `folder`, from the first iteration or from the checkpoint of [`TrainingRun::resume`]. When `stop` becomes
    /// true the run saves a checkpoint and ends with [`Error::Cancelled`]; at its time limit it ends as a finished run.
    ///
    /// # Errors
    /// [`Error::Diverged`] if training collapses; [`Error::Cancelled`] if stopped; [`Error::Io`].
    pub fn run(mut self, folder: &Folder, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Report> {
        let first = self.step.counters().iteration;
        if first == 0 {
            folder.begin(&self.config, self.step.device(), &self.set)?;
        }
        observer.start(&self.outline());
        let began = Instant::now();
        let events = EventLog::open(folder.path(), self.config.train.tensorboard, first, observer);
        let collapse = CollapseDetector::new(&self.config.train);
        let mut running = Running {
            folder,
            observer,
            events,
            collapse,
            first,
            last: began,
            training: 0.0,
            told_no_graph: false,
        };
        let mut grids = Vec::new();
        // A GPU starts the next iteration before the host has the metrics of the last one.
        let ahead = usize::from(self.step.device().is_gpu());
        for done in first + 1..=self.total {
            self.launch()?;
            self.take_metrics(&mut running, ahead)?;
            self.note_missing_graph(&mut running);
            let stopped = stop.load(Ordering::Relaxed);
            let epoch_ends = done % self.per_epoch == 0;
            let late = self.max_time.is_some_and(|limit| began.elapsed() >= limit);
            if stopped || epoch_ends || late || done == self.total {
                self.take_metrics(&mut running, 0)?;
            }
            if stopped {
                let at = self.save(folder, None)?;
                running.observer.note(&format!("stopped after iteration {done}; saved {}", at.display()));
                return Err(Error::Cancelled);
            }
            if epoch_ends {
                self.epoch_end(&mut running, done / self.per_epoch, &mut grids)?;
                running.last = Instant::now();
            }
            if late {
                running.observer.note(&format!("the time limit is reached after iteration {done}"));
                break;
            }
        }
        self.finish(running, grids)
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
        let lr = self.step.learning_rate(self.per_epoch, self.total);
        let batch = BatchIndices { data: self.unlabelled.next_batch(), labelled: self.labelled.next_batch() };
        self.step.launch(&batch, lr)
    }

    /// Takes and records the metrics of all but the last `ahead` iterations that were started.
    fn take_metrics(&mut self, running: &mut Running<'_>, ahead: usize) -> Result<()> {
        while self.step.in_flight() > ahead {
            let metrics = self.step.take_metrics()?;
            running.training += running.last.elapsed().as_secs_f64();
            running.last = Instant::now();
            if let Err(why) = running.collapse.observe(&metrics) {
                let folder = running.folder;
                folder.metrics(&json!({"event": "diverged", "step": metrics.step, "reason": why}))?;
                return Err(Error::Diverged(format!("{why}\n{}", folder.advice())));
            }
            self.record_metrics(running, &metrics)?;
        }
        Ok(())
    }

    /// Writes the metrics of an iteration and tells the observer.
    fn record_metrics(&self, running: &mut Running<'_>, m: &StepMetrics) -> Result<()> {
        let done = m.step;
        let epoch = (done - 1) / self.per_epoch;
        let here = (done - running.first) as f64;
        let rate = here * self.labelled.batch_size() as f64 / running.training.max(1e-9);
        let left = running.training / here * (self.total - done) as f64;
        let iterations = [done, self.total];
        let every = self.config.train.log_every.max(1) as u64;
        if done.is_multiple_of(every) || done == self.total || done == 1 {
            let finite = |v: f64| if v.is_finite() { json!(v) } else { json!(null) };
            running.folder.metrics(&json!({
                "event": "step", "step": done, "epoch": epoch, "loss": m.loss, "ce": m.ce,
                "log_density_data": finite(m.log_density_data), "log_density_chain": finite(m.log_density_chain),
                "gap": finite(m.gap()), "accuracy": m.accuracy, "lr": m.lr, "images_per_second": rate,
            }))?;
            running.events.write(running.observer, |w| tensorboard::iteration(w, m, rate));
        }
        running.observer.iteration(&Progress {
            epoch,
            iterations,
            metrics: *m,
            images_per_second: rate,
            seconds_left: left,
        });
        Ok(())
    }

    /// Evaluates, draws a grid of chains and saves a checkpoint, each if it is due after this epoch.
    fn epoch_end(&mut self, run: &mut Running<'_>, epoch: u64, grids: &mut Vec<PathBuf>) -> Result<()> {
        let (t, step) = (&self.config.train, self.step.counters().iteration);
        let due = |every: usize| every > 0 && epoch.is_multiple_of(every as u64);
        let (eval_due, grid_due, save_due) =
            (due(t.eval_every), due(t.sample_every), due(t.checkpoint_every));
        let mut evaluated = None;
        if eval_due && !self.split.valid.is_empty() {
            let model = self.model()?;
            let c = self.classification(&model, &self.split.valid)?;
            run.folder
                .metrics(&json!({"event": "valid", "epoch": epoch, "accuracy": c.accuracy, "ece": c.ece}))?;
            let text = format!("epoch {epoch}: validation accuracy {:.4}, ECE {:.4}", c.accuracy, c.ece);
            run.observer.note(&text);
            let valid = [("valid/accuracy", c.accuracy), ("valid/ece", c.ece)];
            run.events.write(run.observer, |w| Ok(w.scalars(step, &valid)?));
            evaluated = Some(model);
        }
        if grid_due && self.config.train.p_x_weight != 0.0 {
            let grid = self.chain_grid(run.folder, epoch)?;
            run.events.write(run.observer, |w| tensorboard::picture(w, step, "chains", &grid));
            grids.push(grid);
        }
        // At the end of a run `finish` writes these histograms. Recalibrating statistics for them alone would cost too much
        // where no chains are trained.
        let cheap = evaluated.is_some() || self.config.train.p_x_weight != 0.0;
        if grid_due && cheap && step < self.total {
            run.events.write(run.observer, |w| {
                self.densities(w, step, &evaluated.map_or_else(|| self.model(), Ok)?)
            });
        }
        if save_due {
            self.save(run.folder, None)?;
        }
        run.folder.curves()
    }

    /// Accuracy and calibration on the images `indices`.
    fn classification(&self, model: &Model, indices: &[u32]) -> Result<ClassificationMetrics> {
        let mut labels = vec![0; indices.len()];
        self.set.labels_of(indices, &mut labels)?;
        let scores = model.scores(&evaluation::images(&self.set, indices)?)?;
        ClassificationMetrics::new(&scores, self.config.model.classes, &labels, self.config.eval.ece_bins)
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

    /// Saves a checkpoint; the model's metadata get the evaluation, if there is one, and the model its thresholds.
    fn save(&self, folder: &Folder, evaluated: Option<(&Evaluation, Option<Thresholds>)>) -> Result<PathBuf> {
        let mut model = self.model()?;
        describe(&mut model, &self.step, Some(&self.set), self.bn())?;
        if let Some((evaluation, thresholds)) = evaluated {
            let text = serde_json::to_string(evaluation).map_err(|e| Error::Internal(e.to_string()))?;
            model.metadata.insert("metrics".into(), text);
            thresholds.into_iter().for_each(|t| model.set_thresholds(t));
        }
        let cursors = [self.unlabelled.cursor(), self.labelled.cursor()];
        let state = TrainState::of(&self.step, Some(&self.set), Some(cursors))?;
        state.save(folder.path(), &model).map_err(|e| match e {
            Error::Diverged(why) => Error::Diverged(format!("{why}\n{}", folder.advice())),
            other => other,
        })
    }

    /// Evaluates the final model, saves it and writes the report.
    fn finish(self, run: Running<'_>, mut grids: Vec<PathBuf>) -> Result<Report> {
        let Running { folder, observer, mut events, collapse, training, .. } = run;
        let model = self.model()?;
        let bins = self.config.eval.ece_bins;
        let test = evaluation::evaluate(&model, &self.set, &self.split.test, bins, self.config.seed)?;
        let valid = &self.split.valid;
        let fit = || thresholds::fit(&model, (&self.set, valid), [ALPHA; 2], &mut |_, _| true);
        let thresholds = (valid.len() >= least(ALPHA)).then(fit).transpose()?;
        let checkpoint = self.save(folder, Some((&test, thresholds)))?;
        if self.config.train.p_x_weight != 0.0 {
            self.last_grids(folder, &model, &mut grids)?;
        }
        events.write(observer, |w| self.last_events(w, &model, &test, grids.last()));
        let report = Report {
            folder: folder.path().to_path_buf(),
            iterations: self.step.counters().iteration,
            training_seconds: training,
            test,
            bn: self.bn(),
            gap: collapse.gap(),
            grids,
            checkpoint,
        };
        folder.curves()?;
        folder.result(&report)?;
        Ok(report)
    }
}
