//! Saving checkpoints, and the end of a run: evaluation, thresholds, pictures, `result.json`.

use super::{Ended, Report, Running, TrainingRun, thresholds};
use crate::error::{Error, Result};
use crate::evaluation::{self, Evaluation};
use crate::model::thresholds::{ALPHA, Thresholds, least};
use crate::train::{TrainState, describe};
use serde_json::json;
use std::path::PathBuf;

impl TrainingRun {
    /// Saves a checkpoint, the best one so far if `best` is set; the model's metadata get the evaluation, if there is one, and
    /// the model its thresholds.
    pub(super) fn save(
        &self,
        run: &mut Running<'_>,
        evaluated: Option<(&Evaluation, Option<Thresholds>)>,
        best: bool,
    ) -> Result<PathBuf> {
        let mut model = self.model()?;
        describe(&mut model, &self.step, Some(&self.set), self.bn())?;
        if let Some((evaluation, thresholds)) = evaluated {
            let text = serde_json::to_string(evaluation).map_err(|e| Error::Internal(e.to_string()))?;
            model.metadata.insert("metrics".into(), text);
            thresholds.into_iter().for_each(|t| model.set_thresholds(t));
        }
        let (cursors, place) = (self.cursors(), (&self.config, self.stage));
        let state = TrainState::of((&self.step, &run.guard), place, Some(&self.set), Some(cursors))?;
        let saved = state.save(run.folder.path(), &model, best).map_err(|e| match e {
            Error::Diverged(why) => Error::Diverged(format!("{why}\n{}", run.folder.advice())),
            other => other,
        })?;
        let (step, seconds) = (self.step.counters().iteration, run.seconds());
        run.folder.metrics(&json!({
            "event": "checkpoint", "step": step, "best": best, "training_seconds": seconds,
        }))?;
        Ok(saved)
    }

    /// Evaluates the final model, saves it and writes the report.
    pub(super) fn finish(
        self,
        mut run: Running<'_>,
        mut grids: Vec<PathBuf>,
        ended: Ended,
    ) -> Result<Report> {
        let model = self.model()?;
        let config = self.step.config();
        let bins = config.eval.ece_bins;
        let test = evaluation::evaluate(&model, &self.set, &self.split.test, bins, self.config.seed)?;
        let valid = &self.split.valid;
        let fit = || {
            let scored = thresholds::score(&model, (&self.set, valid), &mut |_, _| true)?;
            thresholds::fit(&model, &self.set, &scored, [ALPHA; 2])
        };
        let thresholds = (valid.len() >= least(ALPHA)).then(fit).transpose()?;
        let warnings = thresholds.as_ref().map(|t| t.values.warnings()).unwrap_or_default();
        warnings.iter().for_each(|w| run.observer.warn(w));
        let checkpoint = self.save(&mut run, Some((&test, thresholds)), false)?;
        let training_seconds = run.seconds();
        let Running { folder, observer, mut events, guard, history, .. } = run;
        if config.train.p_x_weight != 0.0 {
            self.last_grids(folder, &model, &mut grids)?;
        }
        events.write(observer, |w| self.last_events(w, &model, &test, grids.last()));
        let report = Report {
            folder: folder.path().to_path_buf(),
            ended,
            iterations: self.step.counters().iteration,
            planned_iterations: self.total(),
            training_seconds,
            test,
            bn: self.bn(),
            gap: guard.gap(),
            best: history.best(),
            rollbacks: self.step.recovery().rollbacks,
            grids,
            checkpoint,
        };
        folder.curves()?;
        folder.result(&report)?;
        Ok(report)
    }
}

impl Running<'_> {
    /// Seconds of training, of all processes that took part in the run.
    fn seconds(&self) -> f64 {
        self.history.seconds() + self.training
    }
}
