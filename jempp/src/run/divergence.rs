//! What a run does when training diverges: it goes back to a good state, or ends.
//!
//! Invariant: after a rollback the folder holds nothing of the iterations that were undone, except for the event: no
//! checkpoint, so that no later resumption begins at a state that is lost, and no line of metrics.

use super::{Running, TrainingRun, tensorboard};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::train::{Failure, Rollback};
use serde_json::{Value, json};

impl TrainingRun {
    /// Takes and records the metrics of all but the last `ahead` iterations that were started. Returns the failure, if
    /// training has diverged; the iterations after it are then of no use.
    pub(super) fn take_metrics(&mut self, run: &mut Running<'_>, ahead: usize) -> Result<Option<Failure>> {
        while self.step.in_flight() > ahead {
            let metrics = self.step.take_metrics()?;
            run.training += run.last.elapsed().as_secs_f64();
            run.last = std::time::Instant::now();
            if let Some(failure) = run.guard.observe(&self.step, &metrics)? {
                return Ok(Some(failure));
            }
            self.record_metrics(run, &metrics)?;
        }
        Ok(None)
    }

    /// As [`TrainingRun::take_metrics`], for all iterations; looks at the whole state as well, as is due before it is kept,
    /// evaluated or saved, and keeps it if that is due.
    pub(super) fn settle(&mut self, run: &mut Running<'_>) -> Result<Option<Failure>> {
        if let Some(failure) = self.take_metrics(run, 0)? {
            return Ok(Some(failure));
        }
        if let Some(failure) = run.guard.inspect(&self.step)? {
            return Ok(Some(failure));
        }
        if run.guard.is_due(self.step.counters().iteration) {
            run.guard.keep(&self.step, Some(self.cursors()))?;
        }
        Ok(None)
    }

    /// Goes back to a good state, or ends the run.
    ///
    /// # Errors
    /// [`Error::Diverged`] with advice if the run ends.
    pub(super) fn go_back(&mut self, run: &mut Running<'_>, failure: Failure) -> Result<()> {
        // Nothing that follows the failure counts.
        while self.step.in_flight() > 0 {
            self.step.take_metrics()?;
        }
        let (at, why) = (failure.step, failure.reason.clone());
        let back = match run.guard.go_back(&mut self.step, failure) {
            Ok(back) => back,
            Err(Error::Diverged(text)) => {
                run.folder.metrics(&json!({"event": "diverged", "step": at, "reason": why}))?;
                self.leave_good(run)?;
                run.folder.curves()?;
                return Err(Error::Diverged(format!("{text}\n{}", run.folder.advice())));
            }
            Err(other) => return Err(other),
        };
        self.restore_cursors(back.cursors)?;
        self.forget(run, back.recovery.rollbacks - 1)?;
        if back.to > 0 {
            self.save(run, None, false)?;
        }
        self.report(run, &back)
    }

    /// Writes the event.
    fn report(&self, run: &mut Running<'_>, back: &Rollback) -> Result<()> {
        let Rollback { failure, to, recovery, factors: [lr, step], .. } = back;
        run.folder.metrics(&json!({
            "event": "rollback", "rollback": recovery.rollbacks, "from": failure.step, "to": to,
            "reason": failure.reason, "lr_factor": lr, "step_factor": step,
        }))?;
        let count = f64::from(recovery.rollbacks);
        run.events.write(run.observer, |w| {
            w.restart(to + 1)?;
            Ok(w.scalars(*to, &[(tensorboard::ROLLBACKS, count), (tensorboard::LR_FACTOR, *lr)])?)
        });
        run.observer.warn(&back.to_string());
        run.last = std::time::Instant::now();
        Ok(())
    }

    /// Removes what the iterations after the state have left in the folder. `rollbacks`: those whose events stay.
    fn forget(&self, run: &mut Running<'_>, rollbacks: u32) -> Result<()> {
        let at = self.position(rollbacks);
        checkpoint::remove_after(&run.folder.path().join("ckpt"), at.step)?;
        run.folder.rewind(&at)?;
        // Time that was spent on what is undone has been spent.
        run.history.rewound(&run.folder.history(self.span().epochs_before)?);
        Ok(())
    }

    /// Where the run stands, after `rollbacks` rollbacks.
    pub(super) fn position(&self, rollbacks: u32) -> Position {
        let (step, span) = (self.step.counters().iteration, self.span());
        let epochs = span.epochs_before + (step - span.start) / span.per_epoch;
        Position { step, epochs, rollbacks, stage: self.stage }
    }

    /// Before the run ends as diverged: leaves the last good state as its last checkpoint, in place of later ones.
    fn leave_good(&mut self, run: &mut Running<'_>) -> Result<()> {
        let Some(cursors) = run.guard.leave_good(&mut self.step)? else { return Ok(()) };
        self.restore_cursors(cursors)?;
        let done = self.step.counters().iteration;
        checkpoint::remove_after(&run.folder.path().join("ckpt"), done)?;
        if done > 0 {
            self.save(run, None, false)?;
        }
        Ok(())
    }
}

/// A state of a run, as far as lines of metrics are concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// Iterations and epochs done, and rollbacks before.
    step: u64,
    epochs: u64,
    rollbacks: u32,
    /// The stage, from 0.
    stage: usize,
}

impl Position {
    /// Whether the state was reached before the line was written.
    pub(super) fn is_before(&self, line: &Value) -> bool {
        let number = |key: &str| line.get(key).and_then(Value::as_u64);
        match line.get("event").and_then(Value::as_str) {
            Some("rollback") => number("rollback").is_some_and(|k| k > u64::from(self.rollbacks)),
            Some("valid") => number("epoch").is_some_and(|e| e > self.epochs),
            Some("stage") => number("stage").is_some_and(|s| s > self.stage as u64 + 1),
            _ => number("step").is_some_and(|s| s > self.step),
        }
    }
}

/// A fault that a test plants: after which iteration, and what it does to the state.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: u64,
    pub(super) plant: fn(&mut crate::train::TrainStep),
}

#[cfg(test)]
impl TrainingRun {
    /// Plants the fault, once, if it is due.
    pub(super) fn plant_fault(&mut self, done: u64) -> Result<()> {
        if let Some(fault) = self.fault.take_if(|f| f.at == done) {
            (fault.plant)(&mut self.step);
        }
        Ok(())
    }
}
