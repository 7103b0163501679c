//! Starts of chains out of the data set that a model was trained on.

use super::START;
use crate::config::{Config, Init};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::sampling::{Source, fresh, seed_slot};
use crate::streams;
use crate::train::check_fit;
use engine::State;
use engine::rng::Philox;
use jempp_data::Reading;

/// Draws made at a time.
const CHUNK: usize = 64;

/// `n` fresh draws, n×H×W×C, from the informative law of the training images: of the classes `labels`, or of classes as
/// often as in the data. Other than those of the bank they never run out. For [`super::Start::Images`].
///
/// # Errors
/// [`Error::Data`] where the data set that `config` names is not there or no longer what the model was trained on.
pub fn draws_from_data(
    model: &Model,
    config: &Config,
    n: usize,
    labels: Option<&[i32]>,
    seed: u64,
) -> Result<Vec<f32>> {
    let (set, split) = jempp_data::load(&config.data, Reading::on(model.device()))?;
    check_fit(config, &set)?;
    let now = format!("{:08x}", set.crc32c());
    if let Some(then) = model.metadata.get("dataset_crc32c").filter(|then| **then != now) {
        let name = set.name();
        return Err(Error::Data(format!(
            "data set `{name}` has changed: CRC-32C {then} in training, {now} now"
        )));
    }
    let mut state = State::on(model.device());
    let place = seed_slot(&mut state, seed)?;
    let (source, _) = Source::new(&mut state, &set, &split.train, place)?;
    let mut rng = Philox::new(seed, streams::SAMPLE, START);
    let image = |rng: &mut Philox| split.train[rng.below(split.train.len() as u32) as usize];
    let class = |i: u32| set.labels().get(i as usize).map_or(0, |l| i32::from(*l));
    let classes: Vec<i32> = match labels {
        Some(labels) => labels.to_vec(),
        None => (0..n).map(|_| class(image(&mut rng))).collect(),
    };
    let mut out = Vec::with_capacity(n * set.pixels());
    for (k, classes) in classes.chunks(CHUNK).enumerate() {
        let place = (streams::SAMPLE, START - 1 - k as u32);
        let images = model.network().images(1);
        out.extend(fresh(model.device(), &mut state, source, images, classes, Init::Informative, place)?);
    }
    Ok(out)
}
