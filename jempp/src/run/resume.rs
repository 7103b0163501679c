//! Resuming a run from its last checkpoint.

use super::{Folder, TrainingRun};
use crate::error::{Error, Result};
use crate::train::TrainState;
use engine::Device;
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
        let mut run = Self::new(&state.config(overrides)?, device)?;
        state.check_data(&run.set)?;
        state.restore(&mut run.step)?;
        run.check_unfinished()?;
        run.unlabelled.restore(unlabelled)?;
        run.labelled.restore(labelled)?;
        let folder = Folder::open(folder)?;
        folder.rewind(state.counters.iteration)?;
        Ok((run, folder, warnings))
    }

    fn check_unfinished(&self) -> Result<()> {
        let (done, total) = (self.step.counters().iteration, self.total);
        if done < total {
            return Ok(());
        }
        Err(Error::Config(format!(
            "the run has done {done} of {total} iterations: there is nothing to go on with; a larger train.epochs would \
             give it more"
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
    runs.retain(|p| p.join("ckpt").is_dir() && !p.join("result.json").exists());
    runs.sort();
    runs.pop().ok_or_else(|| {
        let parent = parent.display();
        Error::Data(format!(
            "no unfinished run with a checkpoint in {parent}; name a run folder with --resume DIR"
        ))
    })
}
