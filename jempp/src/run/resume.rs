//! Resuming a run from its last checkpoint.

use super::{Ended, Folder, RunStatus, TrainingRun, run_status};
use crate::error::{Error, Result};
use crate::train::TrainState;
use engine::Device;
use jempp_data::Reading;
use std::path::{Path, PathBuf};

impl TrainingRun {
    /// The run in `folder` at its last intact checkpoint, with `overrides` to its configuration (a later end, for example).
    /// Also returns the locked folder, and warnings about damaged checkpoints that were skipped.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no checkpoint, the data set has changed since, or another process trains into the folder;
    /// [`Error::Format`] if no checkpoint is intact or the network differs; [`Error::Config`] if all iterations are done.
    pub fn resume(
        folder: &Path,
        device: &Device,
        overrides: &[String],
    ) -> Result<(Self, Folder, Vec<String>)> {
        let (state, warnings) = TrainState::load(folder)?;
        let [unlabelled, labelled] = state.cursors()?;
        let config = state.config(overrides)?;
        if config.train.from != state.config(&[])?.train.from {
            let why = "train.from says where a new run starts; a run that is resumed goes on from its own checkpoint";
            return Err(Error::Config(why.into()));
        }
        let (set, split) = jempp_data::load(&config.data, Reading::on(device))?;
        // The checkpoint holds the weights: the model that they came from is not needed any more.
        let mut run = Self::prepare(&config, device, set, split)?;
        state.check_data(&run.set)?;
        let (rollbacks, stage) = state.progress();
        run.enter_for_resumption(stage)?;
        state.restore(&mut run.step)?;
        run.check_unfinished(folder)?;
        run.unlabelled.restore(unlabelled)?;
        run.labelled.restore(labelled)?;
        let folder = Folder::open(folder)?;
        folder.rewind(&run.position(rollbacks))?;
        run.check_patience(&folder)?;
        folder.reopen()?;
        run.resumed = Some(state);
        Ok((run, folder, warnings))
    }

    /// Makes this a run in the stage `stage`.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration has no such stage.
    fn enter_for_resumption(&mut self, stage: usize) -> Result<()> {
        let of = self.spans.len();
        if stage >= of {
            let why =
                format!("the checkpoint is in stage {} of the run, the configuration has {of}", stage + 1);
            return Err(Error::Config(why));
        }
        if stage > 0 { self.enter(stage).map(|_| ()) } else { Ok(()) }
    }

    /// # Errors
    /// [`Error::Config`] if early stopping has ended the run.
    fn check_patience(&self, folder: &Folder) -> Result<()> {
        let patience = self.step.config().train.early_stop_patience;
        let history = folder.history(self.span().epochs_before)?;
        let ended = run_status(folder.path());
        let over = matches!(&ended, RunStatus::Ended(r) if r.ended == Ended::EarlyStopped);
        if !over || patience == 0 || history.since_best() < patience {
            return Ok(());
        }
        Err(Error::Config(format!(
            "early stopping has ended the run: {}; a larger train.early_stop_patience would let it go on",
            history.describe_patience()
        )))
    }

    /// # Errors
    /// [`Error::Config`] if the run in `folder` has done all its iterations and has its result.
    fn check_unfinished(&self, folder: &Path) -> Result<()> {
        let (done, total) = (self.step.counters().iteration, self.total());
        // One that was interrupted at its very end is evaluated now.
        if done < total || !matches!(run_status(folder), RunStatus::Ended(_)) {
            return Ok(());
        }
        Err(Error::Config(format!(
            "the run is complete ({done} of {total} iterations); to continue it, set a larger train.epochs"
        )))
    }
}

/// The last run folder in `parent`, by name, that has a checkpoint and is not finished.
///
/// # Errors
/// [`Error::Data`] if there is no such folder.
pub fn latest_unfinished(parent: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(parent).map(|d| d.flatten().map(|e| e.path()).collect::<Vec<_>>());
    let mut runs: Vec<PathBuf> = entries.unwrap_or_default();
    // One that has diverged may go on with other settings.
    let open = |p: &Path| matches!(run_status(p), RunStatus::Unfinished | RunStatus::Diverged(_));
    runs.retain(|p| p.join("ckpt").is_dir() && open(p));
    runs.sort();
    runs.pop().ok_or_else(|| {
        let parent = parent.display();
        Error::Data(format!(
            "no unfinished run with a checkpoint in {parent}; name a run folder with --resume DIR"
        ))
    })
}
