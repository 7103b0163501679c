//! A training run: data, trainer, evaluation, and the folder that keeps what came of it.
//!
//! Invariants: a run never writes into a folder that was there before; a checkpoint never holds a value that is not
//! finite; whatever ends the run, what was finished before is kept.

pub mod curves;
mod folder;
mod grids;
mod loaders;
mod report;
mod resume;
mod tensorboard;
pub mod thresholds;

use crate::checkpoint;
use crate::config::{Config, EvalBn};
use crate::error::{Error, Result};
use crate::evaluation::{self, ClassificationMetrics, Evaluation};
use crate::model::Model;
use crate::model::thresholds::{ALPHA, Thresholds, least};
use crate::train::collapse::Watch;
use crate::train::state;
use crate::train::{Options, Picks, StepMetrics, Trainer, check_fit};
use core::sync::atomic::{AtomicBool, Ordering};
use engine::Device;
pub use folder::{Folder, last_checkpoint};
use jempp_data::{Dataset, Loader, Reading, Split};
pub use report::{Observer, Outline, Progress, Report, Silent};
pub use resume::latest_unfinished;
pub(crate) use resume::{STATE_FORMAT, field};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tensorboard::Board;

/// Checkpoints that a run keeps beside the best one.
const KEEP: usize = 3;

/// A run about to start.
#[derive(Debug)]
pub struct Session {
    config: Config,
    trainer: Trainer,
    set: Dataset,
    split: Split,
    unlabelled: Loader,
    labelled: Loader,
    per_epoch: u64,
    total: u64,
    max_time: Option<Duration>,
}

/// Bounds of a run, beside its configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Ends the run after this time, evaluated and saved.
    pub time: Option<Duration>,
    /// At most so many iterations an epoch.
    pub batches: Option<u64>,
}

/// A run under way.
struct Running<'a> {
    folder: &'a Folder,
    observer: &'a mut dyn Observer,
    board: Board,
    watch: Watch,
    /// Iterations done before it began.
    first: u64,
    /// When the last metrics came, and the seconds of training up to then.
    last: Instant,
    training: f64,
    /// Whether it has been said that iterations run without a graph.
    plain: bool,
}

impl Session {
    /// Loads the data and prepares everything; touches no file.
    ///
    /// # Errors
    /// If the configuration, the data and the device do not fit together.
    pub fn new(config: &Config, device: &Device) -> Result<Self> {
        config.validate()?;
        let (set, split) = jempp_data::load(&config.data, Reading::on(device))?;
        Self::with_data(config, device, set, split)
    }

    /// The same on data of the caller's.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn with_data(config: &Config, device: &Device, set: Dataset, split: Split) -> Result<Self> {
        config.validate()?;
        check_fit(config, &set)?;
        let t = &config.train;
        let [unlabelled, labelled] = loaders::loaders(config, &set, &split)?;
        let trainer = Trainer::new(config, device, Some((&set, &split.train)), Options::default())?;
        let per_epoch = unlabelled.batches_per_epoch() as u64;
        let all = per_epoch * t.epochs as u64;
        let total = if t.max_iters == 0 { all } else { all.min(t.max_iters as u64) };
        let config = config.clone();
        Ok(Self { config, trainer, set, split, unlabelled, labelled, per_epoch, total, max_time: None })
    }

    /// What the run will do and cost.
    pub fn outline(&self) -> Outline {
        Outline {
            dataset: self.set.name().to_owned(),
            images: [self.split.train.len(), self.split.valid.len(), self.split.test.len()],
            device: self.trainer.device().to_string(),
            footprint: self.trainer.footprint(),
            iterations: [self.per_epoch, self.total],
        }
    }

    /// The trainer.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// Times `n` iterations without touching a file; seconds each.
    ///
    /// # Errors
    /// Those of an iteration.
    pub fn time_iterations(&mut self, n: usize) -> Result<Vec<f64>> {
        (0..n)
            .map(|_| {
                let start = Instant::now();
                self.launch()?;
                self.trainer.take_metrics()?;
                Ok(start.elapsed().as_secs_f64())
            })
            .collect()
    }

    /// Bounds the run; see [`Limits`].
    pub fn limit(&mut self, limits: &Limits) {
        if let Some(n) = limits.batches {
            let epochs = self.total.div_ceil(self.per_epoch);
            self.per_epoch = self.per_epoch.min(n.max(1));
            self.total = self.total.min(epochs * self.per_epoch);
        }
        self.max_time = limits.time;
    }

    /// Trains into `folder`, from the first iteration or where [`Session::resume`] left off. When `stop` becomes true the
    /// run saves and ends with [`Error::Cancelled`]; at its time limit it ends as if it were done.
    ///
    /// # Errors
    /// [`Error::Diverged`] when training collapses, [`Error::Cancelled`] when stopped, [`Error::Io`] for files.
    pub fn run(mut self, folder: &Folder, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Report> {
        let first = self.trainer.counters().iteration;
        if first == 0 {
            folder.begin(&self.config, self.trainer.device(), &self.set)?;
        }
        observer.start(&self.outline());
        let began = Instant::now();
        let board = Board::open(folder.path(), self.config.train.tensorboard, first, observer);
        let watch = Watch::new(&self.config.train);
        let mut running =
            Running { folder, observer, board, watch, first, last: began, training: 0.0, plain: false };
        let mut grids = Vec::new();
        // A GPU begins the next iteration before the host has seen the last one's metrics.
        let ahead = usize::from(self.trainer.device().is_gpu());
        for done in first + 1..=self.total {
            self.launch()?;
            self.settle(&mut running, ahead)?;
            if !running.plain
                && let Some(why) = self.trainer.capture_refused()
            {
                running
                    .observer
                    .note(&format!("iterations run without a CUDA graph, which is slower: {why}"));
                running.plain = true;
            }
            let stopped = stop.load(Ordering::Relaxed);
            let epoch_ends = done % self.per_epoch == 0;
            let late = self.max_time.is_some_and(|limit| began.elapsed() >= limit);
            if stopped || epoch_ends || late || done == self.total {
                self.settle(&mut running, 0)?;
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

    /// Asks for one iteration on the next two batches.
    fn launch(&mut self) -> Result<()> {
        let lr = self.trainer.learning_rate(self.per_epoch, self.total);
        let picks = Picks { data: self.unlabelled.next_batch(), labelled: self.labelled.next_batch() };
        self.trainer.launch(&picks, lr)
    }

    /// Sees to the metrics of all but the last `ahead` iterations asked for.
    fn settle(&mut self, running: &mut Running<'_>, ahead: usize) -> Result<()> {
        while self.trainer.in_flight() > ahead {
            let metrics = self.trainer.take_metrics()?;
            running.training += running.last.elapsed().as_secs_f64();
            running.last = Instant::now();
            if let Err(why) = running.watch.see(&metrics) {
                let folder = running.folder;
                folder.metrics(&json!({"event": "diverged", "step": metrics.step, "reason": why}))?;
                return Err(Error::Diverged(format!("{why}\n{}", folder.advice())));
            }
            self.follow(running, &metrics)?;
        }
        Ok(())
    }

    fn follow(&self, running: &mut Running<'_>, m: &StepMetrics) -> Result<()> {
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
            running.board.tell(running.observer, |w| tensorboard::iteration(w, m, rate));
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

    fn epoch_end(&mut self, run: &mut Running<'_>, epoch: u64, grids: &mut Vec<PathBuf>) -> Result<()> {
        let (t, step) = (&self.config.train, self.trainer.counters().iteration);
        let due = |every: usize| every > 0 && epoch.is_multiple_of(every as u64);
        let (eval_due, grid_due, save_due) =
            (due(t.eval_every), due(t.sample_every), due(t.checkpoint_every));
        let mut judged = None;
        if eval_due && !self.split.valid.is_empty() {
            let model = self.model()?;
            let c = self.classification(&model, &self.split.valid)?;
            run.folder
                .metrics(&json!({"event": "valid", "epoch": epoch, "accuracy": c.accuracy, "ece": c.ece}))?;
            let text = format!("epoch {epoch}: validation accuracy {:.4}, ECE {:.4}", c.accuracy, c.ece);
            run.observer.note(&text);
            let valid = [("valid/accuracy", c.accuracy), ("valid/ece", c.ece)];
            run.board.tell(run.observer, |w| Ok(w.scalars(step, &valid)?));
            judged = Some(model);
        }
        if grid_due && self.config.train.p_x_weight != 0.0 {
            let grid = self.chain_grid(run.folder, epoch)?;
            run.board.tell(run.observer, |w| tensorboard::picture(w, step, "chains", &grid));
            grids.push(grid);
        }
        // The run's end shows its own. Statistics recalibrated for this alone cost too much where no chains are drawn.
        let cheap = judged.is_some() || self.config.train.p_x_weight != 0.0;
        if grid_due && cheap && step < self.total {
            run.board
                .tell(run.observer, |w| self.densities(w, step, &judged.map_or_else(|| self.model(), Ok)?));
        }
        if save_due {
            self.save(run.folder, None)?;
        }
        run.folder.curves()
    }

    fn classification(&self, model: &Model, indices: &[u32]) -> Result<ClassificationMetrics> {
        let mut labels = vec![0; indices.len()];
        self.set.labels_of(indices, &mut labels)?;
        let scores = model.scores(&evaluation::images(&self.set, indices)?)?;
        ClassificationMetrics::new(&scores, self.config.model.classes, &labels, self.config.eval.ece_bins)
    }

    /// The model as it would be served now: the weights, or with `train.ema` their average, and the statistics that `eval.bn`
    /// names.
    ///
    /// # Errors
    /// If there are too few images to recalibrate on.
    pub fn model(&self) -> Result<Model> {
        state::model(&self.trainer, Some((&self.set, &self.split)))
    }

    /// The statistics that batch norm is served with, if the network has batch norm.
    fn bn(&self) -> Option<EvalBn> {
        state::bn(&self.trainer, true)
    }

    /// Saves a checkpoint, with what is known of the model's quality.
    fn save(&self, folder: &Folder, judged: Option<(&Evaluation, Option<Thresholds>)>) -> Result<PathBuf> {
        let trainer = &self.trainer;
        let mut model = self.model()?;
        state::describe(&mut model, trainer, Some(&self.set), self.bn())?;
        if let Some((j, thresholds)) = judged {
            let text = serde_json::to_string(j).map_err(|e| Error::Internal(e.to_string()))?;
            model.metadata.insert("metrics".into(), text);
            thresholds.into_iter().for_each(|t| model.set_thresholds(t));
        }
        let (model, raw) = state::contents(&model, trainer)
            .map_err(|e| Error::Diverged(format!("nothing was saved: {e}\n{}", folder.advice())))?;
        let state = json!({
            "format": STATE_FORMAT,
            "counters": trainer.counters(),
            "unlabelled": self.unlabelled.cursor(),
            "labelled": self.labelled.cursor(),
            "config": self.config.to_toml()?,
            "dataset_crc32c": format!("{:08x}", self.set.crc32c()),
        });
        let step = trainer.counters().iteration;
        checkpoint::save(&folder.path().join("ckpt"), step, &model, &raw, &state, false, KEEP)
    }

    fn finish(self, run: Running<'_>, mut grids: Vec<PathBuf>) -> Result<Report> {
        let Running { folder, observer, mut board, watch, training, .. } = run;
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
        board.tell(observer, |w| self.last_events(w, &model, &test, grids.last()));
        let report = Report {
            folder: folder.path().to_path_buf(),
            iterations: self.trainer.counters().iteration,
            training_seconds: training,
            test,
            bn: self.bn(),
            gap: watch.gap(),
            grids,
            checkpoint,
        };
        folder.curves()?;
        folder.result(&report)?;
        Ok(report)
    }
}
