//! The stages of a run: which iterations each has, and going from one to the next.
//!
//! Invariant: a stage begins as a run with `train.from` would, with the model that the stage before would have been evaluated
//! by: its averaged weights, if there are any, and the batch-norm statistics that `eval.bn` names. Counters go on, so that no
//! random number is used twice; schedule and optimiser begin anew. It depends on the state at the end of the stage before
//! alone, so that a run that is interrupted at a boundary ends like one that is not.

use super::{Running, TrainingRun, loaders, tensorboard};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::train::{Guard, Options, TrainStep};
use jempp_data::{Cursor, Split};
use serde_json::json;

/// The iterations of a stage.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) config: Config,
    /// Iterations done at its start and at its end.
    pub(super) start: u64,
    pub(super) end: u64,
    /// Iterations per epoch, and epochs before the stage.
    pub(super) per_epoch: u64,
    pub(super) epochs_before: u64,
}

impl Span {
    /// The epoch, from 0, of iteration `step`, counted from 1.
    pub(super) fn epoch(&self, step: u64) -> u64 {
        self.epochs_before + (step - 1).saturating_sub(self.start) / self.per_epoch
    }

    /// Epochs done after iteration `done`, if one ends there.
    pub(super) fn epochs_done(&self, done: u64) -> Option<u64> {
        let here = done - self.start;
        here.is_multiple_of(self.per_epoch).then(|| self.epochs_before + here / self.per_epoch)
    }
}

/// The stages of a run, with at most `limit` iterations per epoch; `train.max_iters` cuts the last ones.
///
/// # Errors
/// [`crate::Error::Config`] if a stage is not valid, or is to stop early without validation images.
pub(super) fn spans(config: &Config, split: &Split, limit: Option<u64>) -> Result<Vec<Span>> {
    let (mut all, mut start, mut epochs_before) = (Vec::new(), 0, 0);
    let most = if config.train.max_iters == 0 { u64::MAX } else { config.train.max_iters as u64 };
    for config in config.stages()? {
        let patience = config.train.early_stop_patience;
        if patience > 0 && split.valid.is_empty() {
            let why = "needs validation images, which data.valid_size holds out of the training images";
            return Err(Error::Config(format!("`train.early_stop_patience` = {patience} {why}")));
        }
        let per_epoch = (split.train.len() / config.train.batch_size).max(1) as u64;
        let per_epoch = limit.map_or(per_epoch, |n| per_epoch.min(n.max(1)));
        let epochs = config.train.epochs as u64;
        let end = most.min(start + per_epoch * epochs);
        if end > start {
            all.push(Span { config, start, end, per_epoch, epochs_before });
        }
        (start, epochs_before) = (end, epochs_before + epochs);
    }
    Ok(all)
}

impl TrainingRun {
    /// The stage that the run is in.
    pub(super) fn span(&self) -> &Span {
        &self.spans[self.stage]
    }

    /// Iterations of all stages.
    pub(super) fn total(&self) -> u64 {
        self.spans.last().map_or(0, |s| s.end)
    }

    /// Epochs begun, for the name of the last grid.
    pub(super) fn epochs_begun(&self) -> u64 {
        let (done, span) = (self.step.counters().iteration, self.span());
        span.epochs_before + (done - span.start).div_ceil(span.per_epoch)
    }

    /// Makes step and loaders those of the stage `stage`, at its start. Returns the step before.
    pub(super) fn enter(&mut self, stage: usize) -> Result<TrainStep> {
        let span = &self.spans[stage];
        let device = self.step.device().clone();
        let data = Some((&self.set, &self.split.train[..]));
        let mut step = TrainStep::new(&span.config, &device, data, Options::default())?;
        step.begin_stage(span.start)?;
        let [mut unlabelled, mut labelled] = loaders::loaders(&span.config, &self.set, &self.split)?;
        let cursor = Cursor { epoch: span.epochs_before as u32, batch: 0 };
        unlabelled.restore(cursor)?;
        labelled.restore(cursor)?;
        (self.unlabelled, self.labelled, self.stage) = (unlabelled, labelled, stage);
        Ok(core::mem::replace(&mut self.step, step))
    }

    /// Goes on to the next stage.
    pub(super) fn next_stage(&mut self, run: &mut Running<'_>) -> Result<()> {
        let model = self.model()?;
        let done = self.step.counters().iteration;
        let (next, of) = (self.stage + 1, self.spans.len());
        let last = self.enter(next)?;
        self.step.load_weights(&model)?;
        self.step.continue_from(&last)?;
        run.guard = Guard::new(&self.step, Some(self.cursors()))?;
        run.history.begin_stage();
        let span = self.span();
        run.folder.metrics(&json!({
            "event": "stage", "stage": next + 1, "after": done, "epoch": span.epochs_before,
        }))?;
        run.events.write(run.observer, |w| Ok(w.scalars(done, &[(tensorboard::STAGE, (next + 1) as f64)])?));
        let (first, last) = (span.start + 1, span.end);
        run.observer.note(&format!("stage {} of {of}: iterations {first} to {last}", next + 1));
        Ok(())
    }
}
