//! The end of an epoch: evaluation, a grid of chains, a checkpoint.

use super::{Best, Running, TrainingRun, tensorboard};
use crate::error::Result;
use crate::evaluation::{self, ClassificationMetrics};
use crate::model::Model;
use serde_json::json;
use std::path::PathBuf;

impl TrainingRun {
    /// Evaluates, draws a grid of chains and saves a checkpoint, each if it is due after this epoch.
    pub(super) fn epoch_end(
        &mut self,
        run: &mut Running<'_>,
        epoch: u64,
        grids: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let (t, step) = (&self.step.config().train, self.step.counters().iteration);
        let due = |every: usize| every > 0 && epoch.is_multiple_of(every as u64);
        let (eval_due, grid_due, save_due) =
            (due(t.eval_every), due(t.sample_every), due(t.checkpoint_every));
        let (mut evaluated, mut best) = (None, false);
        if eval_due && !self.split.valid.is_empty() {
            let model = self.model()?;
            let c = self.classification(&model, &self.split.valid)?;
            run.folder.metrics(&json!({
                "event": "valid", "step": step, "epoch": epoch, "accuracy": c.accuracy, "ece": c.ece,
            }))?;
            best = run.history.evaluated(Best { step, epoch, accuracy: c.accuracy });
            let text = format!("epoch {epoch}: validation accuracy {:.4}, ECE {:.4}", c.accuracy, c.ece);
            run.observer.note(&text);
            let valid = [("valid/accuracy", c.accuracy), ("valid/ece", c.ece)];
            run.events.write(run.observer, |w| Ok(w.scalars(step, &valid)?));
            evaluated = Some(model);
        }
        if grid_due && self.step.config().train.p_x_weight != 0.0 {
            let grid = self.chain_grid(run.folder, epoch)?;
            run.events.write(run.observer, |w| tensorboard::picture(w, step, "chains", &grid));
            // After a rollback an epoch ends again.
            grids.retain(|g| *g != grid);
            grids.push(grid);
        }
        // At the end of a run `finish` writes these histograms. Recalibrating statistics for them alone would cost too much
        // where no chains are trained.
        let cheap = evaluated.is_some() || self.step.config().train.p_x_weight != 0.0;
        if grid_due && cheap && step < self.total() {
            run.events.write(run.observer, |w| {
                self.densities(w, step, &evaluated.map_or_else(|| self.model(), Ok)?)
            });
        }
        if save_due || best {
            self.save(run, None, best)?;
        }
        run.folder.curves()
    }

    /// Whether `train.early_stop_patience` ends the run here; if it does, the observer is told.
    pub(super) fn out_of_patience(&self, run: &mut Running<'_>) -> bool {
        let patience = self.step.config().train.early_stop_patience;
        let out = patience > 0 && run.history.since_best() >= patience;
        if out {
            let (done, why) = (self.step.counters().iteration, run.history.describe_patience());
            run.observer.note(&format!("early stopping after iteration {done}: {why}"));
        }
        out
    }

    /// Accuracy and calibration on the images `indices`.
    fn classification(&self, model: &Model, indices: &[u32]) -> Result<ClassificationMetrics> {
        let mut labels = vec![0; indices.len()];
        self.set.labels_of(indices, &mut labels)?;
        let scores = model.scores(&evaluation::images(&self.set, indices)?)?;
        ClassificationMetrics::new(
            &scores,
            self.step.config().model.classes,
            &labels,
            self.step.config().eval.ece_bins,
        )
    }
}
