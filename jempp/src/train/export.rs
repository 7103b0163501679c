//! The trained model as it is evaluated and saved.

use super::{TrainStep, recalibrate};
use crate::config::{Config, EvalBn, Init, TrainBn};
use crate::error::{Error, Result};
use crate::model::{Model, StartSamples};
use crate::network::get;
use crate::sampling;
use crate::streams;
use engine::Slot;
use jempp_data::{Dataset, Split};
use serde_json::json;
use std::collections::HashMap;

/// Start samples that a model carries, at most, but at least one of each class.
const START_SAMPLES: usize = 400;

/// A copy of the model as it is now: the weights, or with `train.ema` their average. With a data set, batch norm has the
/// statistics that `eval.bn` names and the model carries start samples for chains; without, batch norm has the running
/// statistics.
///
/// # Errors
/// [`Error::Data`] if there are too few images to recalibrate on.
pub(crate) fn served_model(step: &TrainStep, data: Option<(&Dataset, &Split)>) -> Result<Model> {
    let config = step.config();
    let served: HashMap<String, Slot> = step.served().collect();
    let mut model = Model::new(step.device(), &config.model, |name, _| {
        let slot = served.get(name);
        let slot = slot.ok_or_else(|| Error::Internal(format!("{name} is not in the training state")))?;
        get(step.state(), *slot)
    })?;
    let Some((set, split)) = data else { return Ok(model) };
    if evaluated_bn(config) == EvalBn::Recalibrated {
        let batch = config.train.batch_size;
        let limit = config.eval.recalibration_batches;
        recalibrate::recalibrate(&mut model, set, &split.train, batch, limit)?;
    }
    model.set_start_samples(start_samples(step)?);
    Ok(model)
}

/// Class means and samples of the informative distribution, for sampling without the data set.
///
/// # Errors
/// If there are no training images, or no memory.
pub(super) fn start_samples(step: &TrainStep) -> Result<StartSamples> {
    let images = step.training_images();
    let images = images.ok_or_else(|| Error::Internal("start samples without training images".into()))?;
    let classes = step.config().model.classes;
    let n = (START_SAMPLES / classes).max(1) * classes;
    let of: Vec<i32> = (0..n).map(|i| (i * classes / n) as i32).collect();
    let mut state = step.state().duplicate()?;
    let random = (streams::SAMPLE, u32::MAX);
    let shape = step.network().images(1);
    let draws = sampling::fresh(step.device(), &mut state, images, shape, &of, Init::Informative, random)?;
    let means = step.state().fetch::<f32>(images.means())?;
    Ok(StartSamples { means, draws, classes: of })
}

/// The batch-norm statistics that a model with a data set is evaluated with: those that `eval.bn` names, or if they were
/// frozen in training those.
fn evaluated_bn(config: &Config) -> EvalBn {
    match config.train.bn {
        TrainBn::Frozen => EvalBn::Running,
        TrainBn::Batch => config.eval.bn,
    }
}

/// The batch-norm statistics of [`served_model`] with or without a data set; `None` for a network without batch norm.
pub(crate) fn served_bn(step: &TrainStep, has_data: bool) -> Option<EvalBn> {
    let bn = if has_data { evaluated_bn(step.config()) } else { EvalBn::Running };
    (!step.network().norms.is_empty()).then_some(bn)
}

/// Adds what the training knows to the model's metadata: step, data set, seed, configuration, batch-norm statistics, version.
///
/// # Errors
/// If the configuration has no TOML form.
pub(crate) fn describe(
    model: &mut Model,
    step: &TrainStep,
    set: Option<&Dataset>,
    bn: Option<EvalBn>,
) -> Result<()> {
    let metadata = &mut model.metadata;
    metadata.insert("step".into(), step.counters().iteration.to_string());
    if let Some(set) = set {
        metadata.insert("dataset".into(), set.name().to_owned());
        metadata.insert("dataset_crc32c".into(), format!("{:08x}", set.crc32c()));
        if !set.class_names().is_empty() {
            metadata.insert("class_names".into(), json!(set.class_names()).to_string());
        }
    }
    metadata.insert("seed".into(), step.config().seed.to_string());
    metadata.insert("config".into(), step.config().to_toml()?);
    if let Some(bn) = bn {
        metadata.insert("bn".into(), format!("{bn:?}").to_lowercase());
    }
    metadata.insert("jempp_version".into(), env!("CARGO_PKG_VERSION").to_owned());
    Ok(())
}
