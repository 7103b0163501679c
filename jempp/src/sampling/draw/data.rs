//! Starts of chains drawn from the data set that a model was trained on.

use super::START;
use crate::config::{Config, Init};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::sampling::{TrainingImages, fresh, seed_slot};
use crate::streams;
use engine::State;
use engine::rng::Philox;
use jempp_data::Reading;

/// Starts drawn at a time.
const CHUNK: usize = 64;

/// Draws `n` fresh starts, n×H×W×C, from the informative distribution of the training images: of the classes `labels`, or
/// of random classes with the frequencies of the data. Unlike the model's start samples they do not run out. They are meant
/// for [`super::Start::Images`].
///
/// # Errors
/// [`Error::Data`] if the data set that `config` names is missing or is no longer the one that the model was trained on.
pub fn draws_from_data(
    model: &Model,
    config: &Config,
    n: usize,
    labels: Option<&[i32]>,
    seed: u64,
) -> Result<Vec<f32>> {
    let (set, split) = jempp_data::load(&config.data, Reading::on(model.device()))?;
    config.check_fit(&set)?;
    let now = format!("{:08x}", set.crc32c());
    if let Some(then) = model.metadata.get("dataset_crc32c").filter(|then| **then != now) {
        let name = set.name();
        return Err(Error::Data(format!(
            "data set `{name}` has changed: CRC-32C {then} in training, {now} now"
        )));
    }
    let mut state = State::on(model.device());
    let words = seed_slot(&mut state, seed)?;
    let (training, _) = TrainingImages::new(&mut state, &set, &split.train, words)?;
    let mut rng = Philox::new(seed, streams::SAMPLE, START);
    let image = |rng: &mut Philox| split.train[rng.below(split.train.len() as u32) as usize];
    let class = |i: u32| set.labels().get(i as usize).map_or(0, |l| i32::from(*l));
    let classes: Vec<i32> = match labels {
        Some(labels) => labels.to_vec(),
        None => (0..n).map(|_| class(image(&mut rng))).collect(),
    };
    let mut out = Vec::with_capacity(n * set.pixels());
    for (k, classes) in classes.chunks(CHUNK).enumerate() {
        let random = (streams::SAMPLE, START - 1 - k as u32);
        let shape = model.network().images(1);
        out.extend(fresh(model.device(), &mut state, training, shape, classes, Init::Informative, random)?);
    }
    Ok(out)
}
