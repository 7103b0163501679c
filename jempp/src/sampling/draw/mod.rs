//! New images from a trained model: chains of PYLD, with the batch-norm statistics of the chains that run together, as in
//! training, or with the model's own.
//!
//! Invariants: the first k of n chains are the k chains of a call for k, unless they follow classes and see the
//! statistics of their batch; chains run in batches of a fixed size, so the programs do not grow with their number; the
//! returned images lie in [−1, 1].

mod batches;
mod data;
mod start;

use crate::checkpoint::load_trainer;
use crate::config::{Config, SamplerConfig};
use crate::error::{Error, Result};
use crate::metrics::{argmax, softmax};
use crate::model::source::ModelSource;
use crate::model::{Model, REPLAY_BUFFER};
use crate::sampling::{Langevin, LangevinSpec, counter_slot, seed_slot};
use crate::streams;
use batches::{Batches, are_coupled};
pub use data::draws_from_data;
use engine::State;
pub use start::Start;
pub(crate) use start::by_predicted_class;
use start::starts;
use std::path::Path;

/// Chains that run at a time, which is the size of a batch, and images scored at a time.
const CHUNK: usize = 64;
/// Step of the random stream `Sample` at which starts are drawn; chain steps, which count from 0, stay below it.
const START: u32 = u32::MAX - 1;

/// Reads the replay buffer, n×H×W×C in [−1, 1], of the run folder, checkpoint, published checkpoint or converted model at
/// `path`, as a pool for [`Start::Pool`].
///
/// # Errors
/// [`Error::Data`] when `path` is a model without a checkpoint, or log p(x) was not trained; [`Error::Format`] when the
/// checkpoint is damaged.
pub fn replay_buffer(path: &Path, model: &Model) -> Result<Vec<f32>> {
    let own = ModelSource::open(path)?.into_container()?;
    let holder = if own.get(REPLAY_BUFFER).is_some() { own } else { load_trainer(path)? };
    let Some(tensor) = holder.get(REPLAY_BUFFER) else {
        return Err(Error::Data(format!("{}: this run has no replay buffer", path.display())));
    };
    let [h, w, c] = model.network().config.image_size;
    let n = tensor.shape.first().copied().unwrap_or(0);
    Ok(holder.images(REPLAY_BUFFER, [n, h, w, c])?)
}

/// The batch-norm statistics that chains see; of no importance to a network with another norm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChainBn {
    /// Those of the batch of 64 chains that run together, as in training. A batch that is not full is filled up with further
    /// chains, and one of chains of a class also with chains of the other classes.
    #[default]
    Batch,
    /// The model's own, with which it classifies. A chain does not depend on others then.
    Running,
}

/// How many images to sample, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleOptions<'a> {
    /// Number of chains.
    pub n: usize,
    /// Outer steps per chain.
    pub steps: u32,
    /// One class per chain, which then climbs log p(x, y) of that class y; with `None` all chains climb log p(x).
    pub labels: Option<Vec<i32>>,
    /// Where the chains start.
    pub start: Start<'a>,
    /// Step size, inner steps, clipping and noise. Its number of outer steps and its buffer settings are ignored.
    pub sampler: SamplerConfig,
    /// The batch-norm statistics that the chains see.
    pub bn: ChainBn,
    /// Seed of the starts and the noise.
    pub seed: u64,
}

impl SampleOptions<'_> {
    /// 100 chains of log p(x) from the model's start samples, with the sampler and the number of steps of a round of the
    /// model's training, or of the preset `jempp` if the model does not carry its configuration.
    ///
    /// # Errors
    /// Those of [`Model::config`].
    pub fn of_model(model: &Model) -> Result<Self> {
        let config = model.config()?.map_or_else(|| Config::preset("jempp"), Ok)?;
        Ok(Self::new(&config))
    }

    /// 100 chains of log p(x) from the model's start samples, with the sampler, the number of steps of a round and the seed
    /// of `config`.
    pub fn new(config: &Config) -> Self {
        let (sampler, seed) = (config.sampler.clone(), config.seed);
        // The model has learnt to tell data from chains of that many steps. On the digits, chains that run much longer
        // without restarts reach higher densities and look less like digits.
        let steps = u32::try_from(sampler.outer_steps).unwrap_or(u32::MAX);
        Self {
            n: 100,
            steps,
            labels: None,
            start: Start::StartSamples,
            sampler,
            bn: ChainBn::default(),
            seed,
        }
    }
}

/// Sampled images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// n×H×W×C, in [−1, 1].
    pub images: Vec<f32>,
    /// The class that each chain followed; for chains of log p(x), the class that the model predicts for the image.
    pub labels: Vec<i32>,
    /// Unnormalised log p(x) of each image.
    pub log_density: Vec<f32>,
    /// p(label | x) of each image.
    pub confidence: Vec<f32>,
}

/// Snapshots of the chains on the way from their start to their end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trajectory {
    every: u32,
    /// All chains, n×H×W×C clipped to [−1, 1]: at their start, after every `every` outer steps, and at their end.
    pub frames: Vec<Vec<f32>>,
}

impl Trajectory {
    /// An empty trajectory that records a frame every `every` outer steps; 0 counts as 1.
    pub fn new(every: u32) -> Self {
        Self { every: every.max(1), frames: Vec::new() }
    }

    /// Records the chains numbered `batch`, of `n` chains that are asked for, after `step` of `steps` steps.
    fn record(&mut self, (step, steps): (u32, u32), chains: &[f32], batch: &[usize], n: usize) {
        if step.is_multiple_of(self.every) || step == steps {
            let at = step.div_ceil(self.every) as usize;
            self.frames.resize(self.frames.len().max(at + 1), Vec::new());
            let px = chains.len() / batch.len().max(1);
            let frame = &mut self.frames[at];
            frame.resize(n * px, 0.0);
            for (i, image) in batch.iter().zip(chains.chunks_exact(px)).filter(|(i, _)| **i < n) {
                frame[i * px..(i + 1) * px]
                    .iter_mut()
                    .zip(image)
                    .for_each(|(to, v)| *to = v.clamp(-1.0, 1.0));
            }
        }
    }
}

/// Samples images. `progress` receives the steps done and the steps in total, over all chunks; when it returns false,
/// sampling ends with [`Error::Cancelled`].
///
/// # Errors
/// [`Error::Data`] for a model without start samples where these are needed, for labels or starts that do not fit the model,
/// and for starts that are not finite; [`Error::Diverged`] when a chain becomes NaN or infinite; [`Error::Cancelled`].
pub fn sample(
    model: &Model,
    options: &SampleOptions<'_>,
    progress: &mut dyn FnMut(u32, u32) -> bool,
) -> Result<Samples> {
    sample_with_trajectory(model, options, None, progress)
}

/// Samples images as [`sample`] does and records the chains on the way in `trajectory`.
///
/// # Errors
/// Those of [`sample`].
pub fn sample_with_trajectory(
    model: &Model,
    options: &SampleOptions<'_>,
    mut trajectory: Option<&mut Trajectory>,
    progress: &mut dyn FnMut(u32, u32) -> bool,
) -> Result<Samples> {
    check_labels(model, options)?;
    let coupled = are_coupled(model, options);
    let plan = Batches::new(options, model.network().config.classes, coupled && options.steps > 0);
    let batches = u32::try_from(plan.batches.len()).ok();
    let total = batches.and_then(|c| c.checked_mul(options.steps)).filter(|t| *t < START);
    let total =
        total.ok_or_else(|| Error::Data("too many chains and steps for the 32-bit step counter".into()))?;
    let all = SampleOptions { n: plan.n, labels: plan.labels.clone(), ..options.clone() };
    let mut images = starts(model, &all, options.n)?;
    let px = model.network().pixels();
    let mut done = 0;
    for (k, batch) in plan.batches.iter().enumerate() {
        let mut tick = || {
            done += 1;
            progress(done, total)
        };
        let first = k as u32 * options.steps;
        let run = ChainRun { model, options: &all, coupled, first, batch, n: options.n };
        run.go(&mut images, trajectory.as_deref_mut(), &mut tick)?;
    }
    images.truncate(options.n * px);
    if let Some(i) = images.iter().position(|v| !v.is_finite()) {
        return Err(Error::Diverged(format!(
            "chain {} is no longer finite; try a smaller step size",
            i / px
        )));
    }
    // Noise that was added after the last clipping may have left [−1, 1].
    images.iter_mut().for_each(|v| *v = v.clamp(-1.0, 1.0));
    with_scores(model, options, images)
}

fn check_labels(model: &Model, options: &SampleOptions<'_>) -> Result<()> {
    let classes = model.network().config.classes;
    let Some(labels) = &options.labels else { return Ok(()) };
    if labels.len() != options.n {
        return Err(Error::Data(format!("{} labels for {} chains", labels.len(), options.n)));
    }
    match labels.iter().find(|l| usize::try_from(**l).map_or(true, |l| l >= classes)) {
        Some(l) => Err(Error::Data(format!("class {l}: the model has the classes 0 to {}", classes - 1))),
        None => Ok(()),
    }
}

/// A batch of chains to run.
struct ChainRun<'a> {
    model: &'a Model,
    options: &'a SampleOptions<'a>,
    /// Whether the chains see the batch-norm statistics of the batch.
    coupled: bool,
    /// The chain step that numbers the noise of the first step.
    first: u32,
    /// The numbers of the chains.
    batch: &'a [usize],
    /// The number of chains that are asked for; further ones are companions.
    n: usize,
}

impl ChainRun<'_> {
    /// Runs the chains of the batch, which are among `images`.
    fn go(
        &self,
        images: &mut [f32],
        mut trajectory: Option<&mut Trajectory>,
        tick: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        let (options, network) = (self.options, self.model.network());
        let px = network.pixels();
        let mut state = self.model.state().duplicate()?;
        let chain = state.add("sample", network.images(self.batch.len()))?;
        let seed = seed_slot(&mut state, options.seed)?;
        let counter = counter_slot(&mut state, self.first)?;
        let of = |i: &usize| &images[i * px..(i + 1) * px];
        state.set(chain, &self.batch.iter().flat_map(of).copied().collect::<Vec<f32>>())?;
        let labels: Option<Vec<i32>> =
            options.labels.as_ref().map(|l| self.batch.iter().map(|i| l[*i]).collect());
        let spec = LangevinSpec {
            sampler: &options.sampler,
            chain,
            seed,
            counter,
            conditional: labels.is_some(),
            // No statistics are kept: those of the batch serve the step alone.
            accumulate: self.coupled.then_some(&[]),
            dropout: false,
            stream: streams::SAMPLE,
        };
        let mut langevin = Langevin::new(self.model.device(), network, &spec)?;
        let mut record = |step, state: &State| -> Result<()> {
            if let Some(trajectory) = trajectory.as_deref_mut() {
                trajectory.record((step, options.steps), &state.view::<f32>(chain)?, self.batch, self.n);
            }
            Ok(())
        };
        record(0, &state)?;
        for m in 0..options.steps {
            langevin.run(&mut state, labels.as_deref())?;
            record(m + 1, &state)?;
            if !tick() {
                return Err(Error::Cancelled);
            }
        }
        for (i, image) in self.batch.iter().zip(state.fetch::<f32>(chain)?.chunks_exact(px)) {
            images[i * px..(i + 1) * px].copy_from_slice(image);
        }
        Ok(())
    }
}

/// Scores the sampled images by the model itself.
fn with_scores(model: &Model, options: &SampleOptions<'_>, images: Vec<f32>) -> Result<Samples> {
    let scores = model.scores(&images)?;
    let classes = model.network().config.classes;
    let mut p = vec![0.0; classes];
    let mut out = Samples { images, log_density: scores.log_density, ..Samples::default() };
    for (i, row) in scores.logits.chunks_exact(classes).enumerate() {
        let label = options.labels.as_ref().map_or_else(|| argmax(row) as i32, |l| l[i]);
        softmax(row, &mut p);
        out.labels.push(label);
        out.confidence.push(p[label as usize] as f32);
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
