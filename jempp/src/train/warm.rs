//! A warm start: training that begins with the weights of a model.
//!
//! Invariant: weights and running statistics are taken over, and nothing else: optimiser, schedule, replay buffer and counters
//! stay as they are. A tensor that does not fit is an error that names it, except for a head that is new: one of another
//! number of classes, or an energy head that the model lacks.

use super::TrainStep;
use crate::config::{ConfigBuilder, ModelConfig};
use crate::error::{Error, Result};
use crate::model::source::ModelSource;
use crate::model::{Model, read_tensor};
use crate::network::{listing, set};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

/// Tensors that an error about the architecture lists.
const LISTED: usize = 4;

/// What a training that was started from a model knows about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct WarmStart {
    /// What the user should know: heads that are new.
    pub(crate) notes: Vec<String>,
    /// CRC-32C of the tensors that were taken over.
    pub(crate) crc32c: u32,
    /// The training step that the model was saved after, if its file says so.
    pub(crate) step: Option<u64>,
}

/// Completes a configuration with the network of the model that `train.from` names, if it names one: keys that no source
/// gives take the model's values.
///
/// # Errors
/// Those of [`ModelSource::open`].
pub fn adopt_network(builder: &mut ConfigBuilder) -> Result<()> {
    let from = builder.config().train.from.clone();
    if !from.is_empty() {
        builder.adopt(&ModelSource::open(Path::new(&from))?.architecture()?);
    }
    Ok(())
}

impl TrainStep {
    /// Starts from the model at `path`, as `train.from` names it.
    ///
    /// # Errors
    /// Those of [`ModelSource::open`] and [`TrainStep::start_from`].
    pub(crate) fn start_from_path(&mut self, path: &str) -> Result<(WarmStart, ModelSource<'static>)> {
        let source = ModelSource::open(Path::new(path))?;
        let started = self.start_from(&source).map_err(|e| match e {
            Error::Data(why) => Error::Data(format!("train.from = {path:?}: {why}")),
            other => other,
        })?;
        Ok((started, source))
    }

    /// Copies the weights and running statistics of a model; averages of weights start again from them. Optimiser, replay
    /// buffer and counters stay as they are. A head of another number of classes is left as it is. Returns notes about
    /// heads that the model did not provide.
    ///
    /// # Errors
    /// [`Error::Data`] if the model's architecture differs, naming tensors and both shapes.
    pub fn load_weights(&mut self, model: &Model) -> Result<Vec<String>> {
        let content = ModelSource::Whole(Cow::Owned(model.to_container()?));
        Ok(self.start_from(&content)?.notes)
    }

    /// [`TrainStep::load_weights`] from a model file.
    pub(crate) fn start_from(&mut self, source: &ModelSource<'_>) -> Result<WarmStart> {
        let (mine, theirs) = (self.network.config.clone(), source.architecture()?);
        let fresh = compare(&mine, &theirs, source)?;
        let mut started = WarmStart::default();
        let step = source.header().meta.get("step").and_then(|s| s.parse().ok());
        started.step = step;
        let wanted: Vec<_> = self.network.tensors().filter(|(name, _)| !fresh.contains(name)).collect();
        for (name, slot) in wanted {
            let values = read_tensor(&*source.tensors(&[&name])?, &name, &slot.spec)?;
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
            started.crc32c = crc32c::crc32c_append(started.crc32c, &bytes);
            set(&mut self.state, slot, &values)?;
        }
        if fresh.contains("class_output.weight") {
            let (had, has) = (theirs.classes, mine.classes);
            started.notes.push(format!(
                "the class head is new: the model distinguishes {had} classes, this training {has}"
            ));
        }
        if fresh.contains("energy_output.weight") {
            started.notes.push("the energy head is new: the model has none".to_owned());
        }
        self.keep_actnorm = true;
        self.round()?;
        self.slots.update.reset_average(&mut self.state, &self.network)?;
        Ok(started)
    }
}

/// The tensors of `mine` that the model does not provide because a head is new.
///
/// # Errors
/// [`Error::Data`] naming what does not fit.
fn compare(mine: &ModelConfig, theirs: &ModelConfig, source: &ModelSource<'_>) -> Result<BTreeSet<String>> {
    let refuse = |what: String| {
        Error::Data(format!(
            "the model's architecture differs from the trainer's: {what}; leave the keys of [model] out to take the \
             model's"
        ))
    };
    if mine.norm != theirs.norm {
        return Err(refuse(format!(
            "model.norm = {:?}, the model has {:?}",
            mine.norm.name(),
            theirs.norm.name()
        )));
    }
    if mine.leak != theirs.leak {
        return Err(refuse(format!("model.leak = {}, the model has {}", mine.leak, theirs.leak)));
    }
    let (mut fresh, mut known, mut wrong) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    listing::tensors(mine, |name, want| {
        let found = source.shape(&name);
        let new_classes = name.starts_with("class_output.") && mine.classes != theirs.classes;
        let new_energy = name.starts_with("energy_output.") && found.is_none();
        known.insert(name.clone());
        if new_classes || new_energy {
            fresh.insert(name);
        } else if found.as_deref() != Some(want) {
            let found = found.map_or("none".to_owned(), |s| format!("{s:?}"));
            wrong.push(format!("`{name}`: {want:?} here, {found} in the model"));
        }
        Ok(())
    })?;
    listing::tensors(theirs, |name, shape| {
        if !known.contains(&name) && !name.starts_with("energy_output.") {
            wrong.push(format!("`{name}`: none here, {shape:?} in the model"));
        }
        Ok(())
    })?;
    if wrong.is_empty() {
        return Ok(fresh);
    }
    let more = match wrong.len().saturating_sub(LISTED) {
        0 => String::new(),
        n => format!(", and {n} more tensors"),
    };
    wrong.truncate(LISTED);
    Err(refuse(format!("{}{more}", wrong.join(", "))))
}
