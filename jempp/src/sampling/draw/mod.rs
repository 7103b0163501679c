//! New images from a trained model: chains of PYLD under frozen statistics.
//!
//! Invariants: the first k of n chains are the k chains of a call for k; chains run in chunks of a fixed size, so the
//! programs do not grow with their number; what is given out lies in [−1, 1].

mod data;

use crate::checkpoint::load_trainer;
use crate::config::{Config, SamplerConfig};
use crate::error::{Error, Result};
use crate::metrics::{argmax, softmax};
use crate::model::source::ModelSource;
use crate::model::{Model, REPLAY_BUFFER, StartSamples};
use crate::sampling::{Langevin, LangevinSpec, counter_slot, seed_slot};
use crate::streams;
pub use data::draws_from_data;
use engine::State;
use engine::rng::Philox;
use std::path::Path;

/// Chains that run at a time, and images scored at a time.
const CHUNK: usize = 64;
/// Step of the sample stream that starts are drawn at; chain steps, which count from 0, end before it.
const START: u32 = u32::MAX - 1;
/// Standard deviation of the pixel noise of an informative draw, as in training.
const PIXEL_NOISE: f32 = 1e-2;

/// Where chains start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Start<'a> {
    /// At draws from the informative law that the model carries: of the chain's class where it follows one, else of
    /// any. When they run out, more are made from their means and covariances.
    #[default]
    Bank,
    /// At images of a pool (such as the replay buffer of a checkpoint), in random order and over again when it is
    /// exhausted. A chain that follows a class starts at an image that the model takes for this class, if there is
    /// one.
    Pool(&'a [f32]),
    /// At uniform noise in [−1, 1].
    Noise,
    /// At these images, one a chain, n×H×W×C.
    Images(&'a [f32]),
}

/// The replay buffer, n×H×W×C, of the checkpoint, published checkpoint or converted model that `path` stands for, as a
/// pool for [`Start::Pool`].
///
/// # Errors
/// [`Error::Data`] when `path` is a model alone, or the run trained no log p(x); [`Error::Format`] when the
/// checkpoint is damaged.
pub fn replay_buffer(path: &Path, model: &Model) -> Result<Vec<f32>> {
    let own = ModelSource::open(path)?.into_container()?;
    let holder = if own.get(REPLAY_BUFFER).is_some() { own } else { load_trainer(path)? };
    let Some(tensor) = holder.get(REPLAY_BUFFER) else {
        return Err(Error::Data(format!("{}: this run kept no replay buffer", path.display())));
    };
    let [h, w, c] = model.network().config.image_size;
    let n = tensor.shape.first().copied().unwrap_or(0);
    Ok(holder.images(REPLAY_BUFFER, [n, h, w, c])?)
}

/// What to sample.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleOptions<'a> {
    /// Number of chains.
    pub n: usize,
    /// Outer steps of each chain.
    pub steps: u32,
    /// Classes that the chains follow, one a chain: they then climb log p(x, y). Without, they climb log p(x).
    pub labels: Option<Vec<i32>>,
    /// Where they start.
    pub start: Start<'a>,
    /// Step size, inner steps, clip and noise. Number of outer steps and buffer are not used.
    pub sampler: SamplerConfig,
    /// Seed of starts and noise.
    pub seed: u64,
}

impl SampleOptions<'_> {
    /// 100 chains of log p(x) from the bank, with the constants and as many steps as a round of the model's training
    /// has, or the published ones where the model does not know them.
    ///
    /// # Errors
    /// Those of [`Model::config`].
    pub fn of_model(model: &Model) -> Result<Self> {
        let config = model.config()?.map_or_else(|| Config::preset("jempp"), Ok)?;
        Ok(Self::new(&config))
    }

    /// The same with the constants of a configuration.
    pub fn new(config: &Config) -> Self {
        let (sampler, seed) = (config.sampler.clone(), config.seed);
        // The model has learnt to tell data from where so many steps lead; on the digits, chains that go on for long
        // without restarts become denser and less like digits.
        let steps = u32::try_from(sampler.outer_steps).unwrap_or(u32::MAX);
        Self { n: 100, steps, labels: None, start: Start::Bank, sampler, seed }
    }
}

/// Sampled images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// n×H×W×C, in [−1, 1].
    pub images: Vec<f32>,
    /// The class that each chain followed; of chains of log p(x) the class that the model sees in the image.
    pub labels: Vec<i32>,
    /// Unnormalised log p(x) of each.
    pub log_density: Vec<f32>,
    /// p(label | x) of each.
    pub confidence: Vec<f32>,
}

/// Chains on their way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Film {
    every: u32,
    /// All chains, n×H×W×C, at their start, after each so many steps, and at their end; clipped to [−1, 1].
    pub frames: Vec<Vec<f32>>,
}

impl Film {
    /// One that takes a frame every so many outer steps; 0 counts as 1.
    pub fn new(every: u32) -> Self {
        Self { every: every.max(1), frames: Vec::new() }
    }

    /// Takes the chains of a chunk after `step` of `steps` steps. Chunks come one after another, so each frame grows.
    fn take(&mut self, step: u32, steps: u32, chains: &[f32]) {
        if step.is_multiple_of(self.every) || step == steps {
            let at = step.div_ceil(self.every) as usize;
            self.frames.resize(self.frames.len().max(at + 1), Vec::new());
            self.frames[at].extend(chains.iter().map(|v| v.clamp(-1.0, 1.0)));
        }
    }
}

/// Samples images. `progress` is told steps done and steps in all (over all chunks); when it says false, sampling
/// ends with [`Error::Cancelled`].
///
/// # Errors
/// [`Error::Data`] for a model without a bank where one is needed, labels or starts that do not fit, or starts that
/// are not finite; [`Error::Diverged`] when a chain leaves the finite numbers; [`Error::Cancelled`].
pub fn sample(
    model: &Model,
    options: &SampleOptions<'_>,
    progress: &mut dyn FnMut(u32, u32) -> bool,
) -> Result<Samples> {
    sample_filmed(model, options, None, progress)
}

/// As [`sample`], taking frames into `film` on the way.
///
/// # Errors
/// As [`sample`].
pub fn sample_filmed(
    model: &Model,
    options: &SampleOptions<'_>,
    mut film: Option<&mut Film>,
    progress: &mut dyn FnMut(u32, u32) -> bool,
) -> Result<Samples> {
    let chunks = options.n.div_ceil(CHUNK);
    let total = u32::try_from(chunks).ok().and_then(|c| c.checked_mul(options.steps)).filter(|t| *t < START);
    let total = total.ok_or_else(|| Error::Data("so many chains and steps cannot be numbered".into()))?;
    check_labels(model, options)?;
    let mut images = starts(model, options)?;
    let px = model.network().pixels();
    let mut done = 0;
    for (k, chunk) in images.chunks_mut(CHUNK * px).enumerate() {
        let first = k * CHUNK;
        let labels = options.labels.as_ref().map(|l| &l[first..first + chunk.len() / px]);
        let mut tick = || {
            done += 1;
            progress(done, total)
        };
        run_chunk(model, options, k as u32 * options.steps, labels, chunk, film.as_deref_mut(), &mut tick)?;
    }
    if let Some(i) = images.iter().position(|v| !v.is_finite()) {
        return Err(Error::Diverged(format!(
            "chain {} is no longer finite; try a smaller step size",
            i / px
        )));
    }
    // Noise after the last clip may have carried a value out of the box.
    images.iter_mut().for_each(|v| *v = v.clamp(-1.0, 1.0));
    judged(model, options, images)
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

/// Moves the chains of one chunk; their noise is numbered from `first`.
fn run_chunk(
    model: &Model,
    options: &SampleOptions<'_>,
    first: u32,
    labels: Option<&[i32]>,
    images: &mut [f32],
    mut film: Option<&mut Film>,
    tick: &mut dyn FnMut() -> bool,
) -> Result<()> {
    let network = model.network();
    let mut state = model.state().duplicate()?;
    let chain = state.add("sample", network.images(images.len() / network.pixels()))?;
    let seed = seed_slot(&mut state, options.seed)?;
    let counter = counter_slot(&mut state, first)?;
    state.set(chain, images)?;
    let spec = LangevinSpec {
        sampler: &options.sampler,
        chain,
        seed,
        counter,
        conditional: labels.is_some(),
        accumulate: None,
        stream: streams::SAMPLE,
    };
    let mut langevin = Langevin::new(model.device(), network, &spec)?;
    let mut take = |step, state: &State| -> Result<()> {
        if let Some(film) = film.as_deref_mut() {
            film.take(step, options.steps, &state.view::<f32>(chain)?);
        }
        Ok(())
    };
    take(0, &state)?;
    for m in 0..options.steps {
        langevin.run(&mut state, labels)?;
        take(m + 1, &state)?;
        if !tick() {
            return Err(Error::Cancelled);
        }
    }
    images.copy_from_slice(&state.fetch::<f32>(chain)?);
    Ok(())
}

/// What the model says about its own images.
fn judged(model: &Model, options: &SampleOptions<'_>, images: Vec<f32>) -> Result<Samples> {
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

fn starts(model: &Model, options: &SampleOptions<'_>) -> Result<Vec<f32>> {
    let (n, px) = (options.n, model.network().pixels());
    let mut rng = Philox::new(options.seed, streams::SAMPLE, START);
    match options.start {
        Start::Noise => Ok((0..n * px).map(|_| 2.0 * rng.uniform() - 1.0).collect()),
        Start::Images(x) => {
            if x.len() != n * px {
                return Err(Error::Data(format!("starts hold {} values, not {n} images of {px}", x.len())));
            }
            finite(x, px)?;
            Ok(x.to_vec())
        }
        Start::Pool(pool) => from_pool(model, options, pool, &mut rng),
        Start::Bank => {
            let none = "the model carries no draws to start from; start from the chains of its training (--start buffer), if its \
                        file has them, or from noise (--start noise)";
            let bank = model.start_samples()?.ok_or_else(|| Error::Data(none.into()))?;
            from_bank(bank, px, options, &mut rng)
        }
    }
}

fn finite(images: &[f32], px: usize) -> Result<()> {
    match images.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(Error::Data(format!("start {} holds {}", i / px, images[i]))),
        None => Ok(()),
    }
}

/// Chains that follow no class share the order of all of `rows`; those that do, the order of their class's.
struct Order {
    rows: Vec<Vec<usize>>,
    next: Vec<usize>,
}

impl Order {
    fn new(rows: Vec<Vec<usize>>) -> Self {
        let next = vec![0; rows.len()];
        Self { rows, next }
    }

    /// The next row of `group`, and whether all its rows had been given before.
    fn next(&mut self, group: usize) -> Option<(usize, bool)> {
        let (rows, next) = (self.rows.get(group)?, self.next.get_mut(group)?);
        let i = *next;
        *next += 1;
        rows.get(i % rows.len().max(1)).map(|r| (*r, i >= rows.len()))
    }
}

fn from_pool(model: &Model, options: &SampleOptions<'_>, pool: &[f32], rng: &mut Philox) -> Result<Vec<f32>> {
    let px = model.network().pixels();
    if pool.is_empty() || !pool.len().is_multiple_of(px) {
        return Err(Error::Data(format!("{} values are no pool of images of {px}", pool.len())));
    }
    finite(pool, px)?;
    let mut all: Vec<usize> = (0..pool.len() / px).collect();
    rng.shuffle(&mut all);
    let mut by_class = match &options.labels {
        Some(_) => Order::new(by_predicted_class(model, pool, &all, options.n)?),
        None => Order::new(Vec::new()),
    };
    let mut any = Order::new(vec![all]);
    let mut out = Vec::with_capacity(options.n * px);
    for i in 0..options.n {
        let own = options.labels.as_ref().and_then(|l| by_class.next(l[i] as usize));
        let (row, _) = own.or_else(|| any.next(0)).unwrap_or_default();
        out.extend_from_slice(&pool[row * px..(row + 1) * px]);
    }
    Ok(out)
}

/// The first `most` rows of `pool` (n×H×W×C) of each class that the model sees in them, met in the order `order`. Stops
/// looking when all classes have theirs.
///
/// # Errors
/// As [`Model::scores`].
pub fn by_predicted_class(
    model: &Model,
    pool: &[f32],
    order: &[usize],
    most: usize,
) -> Result<Vec<Vec<usize>>> {
    let (px, classes) = (model.network().pixels(), model.network().config.classes);
    let mut rows = vec![Vec::new(); classes];
    for part in order.chunks(CHUNK) {
        let images: Vec<f32> = part.iter().flat_map(|r| pool[r * px..(r + 1) * px].iter().copied()).collect();
        let logits = model.logits(&images)?;
        for (row, logits) in part.iter().zip(logits.chunks_exact(classes)) {
            let of = &mut rows[argmax(logits)];
            if of.len() < most {
                of.push(*row);
            }
        }
        if rows.iter().all(|r: &Vec<usize>| r.len() >= most) {
            break;
        }
    }
    Ok(rows)
}

fn from_bank(
    bank: &StartSamples,
    px: usize,
    options: &SampleOptions<'_>,
    rng: &mut Philox,
) -> Result<Vec<f32>> {
    let classes = bank.means.len() / px;
    if bank.means.len() != classes * px || bank.draws.len() != bank.classes.len() * px {
        return Err(Error::Data(format!("the model's draws are no images of {px} values")));
    }
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); classes];
    for (i, c) in bank.classes.iter().enumerate() {
        let unknown = || Error::Data(format!("draw {i} is of class {c}, which has no mean"));
        usize::try_from(*c).ok().and_then(|c| rows.get_mut(c)).ok_or_else(unknown)?.push(i);
    }
    let mut all: Vec<usize> = (0..bank.classes.len()).collect();
    rng.shuffle(&mut all);
    let mut own = rows.clone();
    own.iter_mut().for_each(|r| rng.shuffle(r));
    let (mut by_class, mut any) = (Order::new(own), Order::new(vec![all]));
    let mut out = Vec::with_capacity(options.n * px);
    for i in 0..options.n {
        let label = options.labels.as_ref().map(|l| l[i]);
        let drawn = match label {
            Some(l) => by_class.next(l as usize),
            None => any.next(0),
        };
        match drawn {
            Some((row, false)) => out.extend_from_slice(&bank.draws[row * px..(row + 1) * px]),
            Some((row, true)) => another(bank, px, bank.classes[row] as usize, &rows, rng, &mut out),
            None => return Err(Error::Data(format!("the model carries no draws of class {label:?}"))),
        }
    }
    Ok(out)
}

/// One more draw of a class: μ + n^-½ Σ z (x − μ) + 10⁻²ξ over the bank's n draws x of it, clipped, which has their
/// mean and covariance.
fn another(
    bank: &StartSamples,
    px: usize,
    class: usize,
    rows: &[Vec<usize>],
    rng: &mut Philox,
    out: &mut Vec<f32>,
) {
    let mean = &bank.means[class * px..(class + 1) * px];
    let mut x = mean.to_vec();
    let factor = 1.0 / (rows[class].len().max(1) as f32).sqrt();
    for row in &rows[class] {
        let z = factor * rng.normal();
        let draw = &bank.draws[row * px..(row + 1) * px];
        x.iter_mut().zip(draw.iter().zip(mean)).for_each(|(x, (d, m))| *x += z * (d - m));
    }
    out.extend(x.iter().map(|x| (x + PIXEL_NOISE * rng.normal()).clamp(-1.0, 1.0)));
}

#[cfg(test)]
mod tests;
