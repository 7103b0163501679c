//! Everything that training needs to continue bit for bit, and its form in a checkpoint.
//!
//! Invariant: weights, running statistics, the optimiser's moments, averages, replay buffer, counters and positions in the
//! data set are restored exactly. Everything else follows from them, so a resumed training ends like an uninterrupted one.

use super::{Counters, Guard, Recovery, TrainStep};
use crate::checkpoint::{self, Checkpoint};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::{Model, read_tensor, write_tensor};
use crate::network::get;
use jempp_data::{Cursor, Dataset};
use jempp_formats::container::{Container, Tensor};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// `format` in the `state.json` of a training run, which takes its batches from a data set.
const RUN_FORMAT: &str = "jempp-state-1";
/// `format` in the `state.json` of a [`super::Trainer`], whose batches a host program gives.
const HOST_FORMAT: &str = "jempp-host-1";
/// Checkpoints that are kept in a folder, besides the best one.
const KEEP: usize = 3;

/// The state of a training step between two iterations.
#[derive(Debug)]
pub(crate) struct TrainState {
    /// The configuration, a TOML document.
    config: String,
    pub(crate) counters: Counters,
    /// Raw weights, running statistics, optimiser and replay buffer.
    tensors: Container,
    /// Checksum of the data set, if there is one.
    dataset_crc32c: Option<String>,
    /// Where the loaders of the unlabelled and of the labelled images stand, in a training run.
    cursors: Option<[Cursor; 2]>,
    /// What rollbacks have changed, and the guard's record, in checkpoints since there are rollbacks.
    recovery: Recovery,
    guard: Option<Value>,
    /// The stage of a run, from 0.
    stage: usize,
    /// Whether the weights are those of a model, also before the first iteration.
    warm: bool,
}

impl TrainState {
    /// The state of `step` and its guard now. `config` is the configuration of all stages and `stage` the one that `step` is
    /// in; `set` is the data set and `cursors` the positions of the loaders, if there are any.
    ///
    /// # Errors
    /// If the configuration has no TOML form, or a GPU fails.
    pub(crate) fn of(
        (step, guard): (&TrainStep, &Guard),
        (config, stage): (&Config, usize),
        set: Option<&Dataset>,
        cursors: Option<[Cursor; 2]>,
    ) -> Result<Self> {
        let mut tensors = Vec::new();
        for (name, slot) in step.network().tensors().chain(step.extra_slots()) {
            tensors.push(write_tensor(&name, &slot.spec, &get(step.state(), slot)?)?);
        }
        let (record, snapshots) = guard.save(step)?;
        tensors.extend(snapshots);
        Ok(Self {
            config: config.to_toml()?,
            counters: step.counters(),
            tensors: Container::new(tensors),
            dataset_crc32c: set.map(crc32c),
            cursors,
            recovery: step.recovery(),
            guard: Some(record),
            stage,
            warm: step.keep_actnorm,
        })
    }

    /// Adds tensors that the checkpoint is to hold.
    pub(super) fn add(&mut self, more: impl IntoIterator<Item = Tensor>) {
        let mut tensors = core::mem::take(&mut self.tensors.tensors);
        tensors.extend(more);
        self.tensors = Container::new(tensors);
    }

    /// The tensors of the checkpoint.
    pub(super) fn tensors(&self) -> &Container {
        &self.tensors
    }

    /// Saves the state with the model as a checkpoint in `folder/ckpt`, and deletes all but the last three and the best
    /// one, which is this one if `best` is set. The caller holds the folder's lock.
    ///
    /// # Errors
    /// [`Error::Diverged`] if a value is not finite, and then nothing is saved; [`Error::Io`].
    pub(crate) fn save(&self, folder: &Path, model: &Model, best: bool) -> Result<PathBuf> {
        let model = model.to_container()?;
        let finite = model.check_finite().and_then(|()| self.tensors.check_finite());
        finite.map_err(|e| Error::Diverged(format!("nothing was saved: {}", Error::from(e))))?;
        let mut state = json!({
            "format": if self.cursors.is_some() { RUN_FORMAT } else { HOST_FORMAT },
            "counters": self.counters,
            "config": self.config,
            "dataset_crc32c": self.dataset_crc32c,
            "recovery": self.recovery,
            "guard": self.guard,
            "stage": self.stage,
        });
        if self.warm {
            state["warm"] = json!(true);
        }
        if let Some([unlabelled, labelled]) = self.cursors {
            state["unlabelled"] = json!(unlabelled);
            state["labelled"] = json!(labelled);
        }
        let (root, step) = (folder.join("ckpt"), self.counters.iteration);
        checkpoint::save(&root, step, &model, &self.tensors, &state, best, KEEP)
    }

    /// Loads the last intact checkpoint in `folder/ckpt`; also returns warnings about damaged ones that were skipped.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no checkpoint; [`Error::Format`] if none is intact or its state is not known.
    pub(crate) fn load(folder: &Path) -> Result<(Self, Vec<String>)> {
        let (c, warnings) = checkpoint::load_last(&folder.join("ckpt"))?;
        let format: String = field(&c, "format")?;
        let (dataset_crc32c, cursors) = match format.as_str() {
            RUN_FORMAT => {
                let cursors = [field(&c, "unlabelled")?, field(&c, "labelled")?];
                (Some(field(&c, "dataset_crc32c")?), Some(cursors))
            }
            HOST_FORMAT => (field(&c, "dataset_crc32c")?, None),
            _ => {
                let dir = c.dir.display();
                let known = format!("`{RUN_FORMAT}` or `{HOST_FORMAT}`");
                return Err(Error::Format(format!("{dir}: the state is `{format}`, not {known}")));
            }
        };
        let (config, counters) = (field(&c, "config")?, field(&c, "counters")?);
        // Checkpoints of older versions do not have these.
        let optional = |name: &str| c.state.get(name).is_some_and(|v| !v.is_null());
        let recovery = if optional("recovery") { field(&c, "recovery")? } else { Recovery::default() };
        let guard = if optional("guard") { Some(field(&c, "guard")?) } else { None };
        let stage = if optional("stage") { field(&c, "stage")? } else { 0 };
        let warm = c.state.get("warm").and_then(Value::as_bool).unwrap_or(false);
        let tensors = c.trainer;
        Ok((
            Self { config, counters, tensors, dataset_crc32c, cursors, recovery, guard, stage, warm },
            warnings,
        ))
    }

    /// The configuration, with `overrides` to it.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not valid.
    pub(crate) fn config(&self, overrides: &[String]) -> Result<Config> {
        Config::from_sources("jempp", Some((&self.config, "the checkpoint's configuration")), overrides)
    }

    /// Whether the training used a data set.
    pub(crate) fn has_data(&self) -> bool {
        self.dataset_crc32c.is_some()
    }

    /// Checks that `set` is the data set that the training used.
    ///
    /// # Errors
    /// [`Error::Data`] if its checksum differs.
    pub(crate) fn check_data(&self, set: &Dataset) -> Result<()> {
        let (name, now) = (set.name(), crc32c(set));
        match &self.dataset_crc32c {
            Some(then) if *then != now => {
                Err(Error::Data(format!("data set `{name}` has changed: CRC-32C {then} then, {now} now")))
            }
            _ => Ok(()),
        }
    }

    /// Where the loaders of the unlabelled and of the labelled images stood.
    ///
    /// # Errors
    /// [`Error::Format`] if the checkpoint was saved by a [`super::Trainer`].
    pub(crate) fn cursors(&self) -> Result<[Cursor; 2]> {
        self.cursors.ok_or_else(|| {
            let why = "the checkpoint was saved by a host program's trainer, not by a training run";
            Error::Format(format!("{why}: its state is `{HOST_FORMAT}`, not `{RUN_FORMAT}`"))
        })
    }

    /// Restores tensors and counters of `step`.
    ///
    /// # Errors
    /// [`Error::Format`] when a tensor is missing or of another shape.
    pub(crate) fn restore(&self, step: &mut TrainStep) -> Result<()> {
        let slots: Vec<_> = step.network().tensors().chain(step.extra_slots()).collect();
        for (name, slot) in slots {
            let values = read_tensor(&self.tensors, &name, &slot.spec)?;
            step.state_mut().set(slot, &values)?;
        }
        step.keep_actnorm = self.warm;
        step.round()?;
        step.set_recovery(self.recovery)?;
        step.set_counters(self.counters)
    }

    /// Restores the guard of the training step that [`TrainState::restore`] has restored.
    ///
    /// # Errors
    /// [`Error::Format`] when its record or a snapshot is damaged.
    pub(crate) fn restore_guard(&self, guard: &mut Guard, step: &TrainStep) -> Result<()> {
        self.guard.as_ref().map_or(Ok(()), |record| guard.restore(step, record, &self.tensors))
    }

    /// The number of rollbacks before, and the stage that the training is in.
    pub(crate) fn progress(&self) -> (u32, usize) {
        (self.recovery.rollbacks, self.stage)
    }
}

/// The checksum as it is written in checkpoints.
fn crc32c(set: &Dataset) -> String {
    format!("{:08x}", set.crc32c())
}

/// The value of `name` in a checkpoint's `state.json`.
///
/// # Errors
/// [`Error::Format`] when it is missing or unreadable.
fn field<T: DeserializeOwned>(c: &Checkpoint, name: &str) -> Result<T> {
    let value = c.state.get(name).cloned().unwrap_or_default();
    serde_json::from_value(value).map_err(|e| Error::Format(format!("{}: {name}: {e}", c.dir.display())))
}
