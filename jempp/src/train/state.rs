//! What is kept of a trainer: the model as it would be served now, and everything that it needs to go on.
//!
//! Invariant: [`restore`] of what [`contents`] gave brings every tensor back to the last bit.

use crate::config::{EvalBn, Init};
use crate::error::{Error, Result};
use crate::model::{Model, StartSamples, read_tensor, write_tensor};
use crate::network::get;
use crate::sampling::{self, Source};
use crate::streams;
use crate::train::Trainer;
use crate::train::recalibrate;
use engine::Slot;
use jempp_data::{Dataset, Split};
use jempp_formats::container::Container;
use serde_json::json;
use std::collections::HashMap;

/// Draws in the bank, at most, and for each class.
const BANK: usize = 400;

/// The model as it would be served now: the weights, or with `train.ema` their average. Batch norm has the statistics that
/// `eval.bn` names, and without data the running ones; draws for chains to start from are there with data only.
///
/// # Errors
/// If there are too few images to recalibrate on.
pub fn model(trainer: &Trainer, data: Option<(&Dataset, &Split)>) -> Result<Model> {
    let config = trainer.config();
    let served: HashMap<String, Slot> = trainer.served().collect();
    let mut model = Model::new(trainer.device(), &config.model, |name, _| {
        let slot = served.get(name);
        let slot = slot.ok_or_else(|| Error::Internal(format!("{name} is not in the trainer")))?;
        get(trainer.state(), *slot)
    })?;
    let Some((set, split)) = data else { return Ok(model) };
    if config.eval.bn == EvalBn::Recalibrated {
        let batch = config.train.batch_size;
        let limit = config.eval.recalibration_batches;
        recalibrate::recalibrate(&mut model, set, &split.train, batch, limit)?;
    }
    let source = trainer.source().ok_or_else(|| Error::Internal("a run without data".into()))?;
    model.set_start_samples(start_samples(trainer, source)?);
    Ok(model)
}

/// Class means and informative draws for hosts without the data.
fn start_samples(trainer: &Trainer, source: Source) -> Result<StartSamples> {
    let classes = trainer.config().model.classes;
    let n = (BANK / classes).max(1) * classes;
    let draws: Vec<i32> = (0..n).map(|i| (i * classes / n) as i32).collect();
    let mut state = trainer.state().duplicate()?;
    let place = (streams::SAMPLE, u32::MAX);
    let images = trainer.network().images(1);
    let values =
        sampling::fresh(trainer.device(), &mut state, source, images, &draws, Init::Informative, place)?;
    let means = trainer.state().fetch::<f32>(source.means())?;
    Ok(StartSamples { means, draws: values, classes: draws })
}

/// The statistics that batch norm is served with, if the network has batch norm.
pub fn bn(trainer: &Trainer, data: bool) -> Option<EvalBn> {
    let bn = if data { trainer.config().eval.bn } else { EvalBn::Running };
    (!trainer.network().norms.is_empty()).then_some(bn)
}

/// Writes into a model's metadata what its trainer knows: step, data, seed, configuration.
///
/// # Errors
/// If the configuration has no TOML form.
pub fn describe(
    model: &mut Model,
    trainer: &Trainer,
    set: Option<&Dataset>,
    bn: Option<EvalBn>,
) -> Result<()> {
    let metadata = &mut model.metadata;
    metadata.insert("step".into(), trainer.counters().iteration.to_string());
    if let Some(set) = set {
        metadata.insert("dataset".into(), set.name().to_owned());
        metadata.insert("dataset_crc32c".into(), format!("{:08x}", set.crc32c()));
        if !set.class_names().is_empty() {
            metadata.insert("class_names".into(), json!(set.class_names()).to_string());
        }
    }
    metadata.insert("seed".into(), trainer.config().seed.to_string());
    metadata.insert("config".into(), trainer.config().to_toml()?);
    if let Some(bn) = bn {
        metadata.insert("bn".into(), format!("{bn:?}").to_lowercase());
    }
    metadata.insert("jempp_version".into(), env!("CARGO_PKG_VERSION").to_owned());
    Ok(())
}

/// The two files of a checkpoint: the model, and raw weights, optimiser and replay buffer.
///
/// # Errors
/// [`Error::Format`] when a value is not finite.
pub fn contents(model: &Model, trainer: &Trainer) -> Result<(Container, Container)> {
    let mut tensors = Vec::new();
    for (name, slot) in trainer.network().tensors().chain(trainer.extra_slots()) {
        tensors.push(write_tensor(&name, &slot.spec, &get(trainer.state(), slot)?)?);
    }
    let (model, raw) = (model.to_container()?, Container::new(tensors));
    model.check_finite()?;
    raw.check_finite()?;
    Ok((model, raw))
}

/// Gives a trainer the tensors of a checkpoint; its counters are set apart.
///
/// # Errors
/// [`Error::Format`] when a tensor is missing or of another shape.
pub fn restore(trainer: &mut Trainer, raw: &Container) -> Result<()> {
    let slots: Vec<_> = trainer.network().tensors().chain(trainer.extra_slots()).collect();
    for (name, slot) in slots {
        let values = read_tensor(raw, &name, &slot.spec)?;
        trainer.state_mut().set(slot, &values)?;
    }
    trainer.round()
}
