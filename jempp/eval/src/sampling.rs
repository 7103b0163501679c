//! Sampling with settings that override those of training: from a loaded model to arrays.

use jempp::config::Config;
use jempp::model::Model;
use jempp::sampling::draw::{
    ChainBn, SampleOptions, Samples, Start, Trajectory, draws_from_data, replay_buffer,
    sample_with_trajectory,
};
use jempp::{Error, Result};
use jempp_formats::grid::write_image;
use jempp_formats::npz::{self, Array};
use std::path::Path;

/// Columns of a grid of images that are not arranged by class.
const COLUMNS: usize = 10;
/// Default limit on the frames of an animation, not counting the first.
const FRAMES: u32 = 50;
/// Chains in an animation, at most: all frames are held in memory until the end.
const MAX_ANIMATED: usize = 1000;

/// Where chains start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainStart {
    /// At samples of the class Gaussians stored in the model (informative initialization of JEM++).
    Informative,
    /// At images of the checkpoint's replay buffer if there is one, else at samples of the class Gaussians stored in the model.
    Trained,
    /// At images of the checkpoint's replay buffer.
    ReplayBuffer,
    /// At fresh samples of Gaussians fitted to the training images of each class.
    Data,
    /// At uniform noise in [−1, 1].
    Noise,
}

impl ChainStart {
    /// Its description in result files.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Informative => "samples of the model's class Gaussians",
            Self::Trained => "the replay buffer, or without one samples of the model's class Gaussians",
            Self::ReplayBuffer => "the replay buffer",
            Self::Data => "samples of class Gaussians fitted to the training images",
            Self::Noise => "uniform noise",
        }
    }

    /// Loads or draws the images that chains start from, N×H×W×C in [−1, 1]; empty for starts that need none. `path` is where
    /// `model` was loaded from; `labels` are the classes of the n chains, if they are conditioned on classes.
    ///
    /// # Errors
    /// Those of [`replay_buffer`] and [`draws_from_data`].
    pub(crate) fn images(
        self,
        (model, path): (&Model, &Path),
        config: &Config,
        (n, labels): (usize, Option<&[i32]>),
    ) -> Result<Vec<f32>> {
        match self {
            Self::Trained => match replay_buffer(path, model) {
                Err(Error::Data(_)) => Ok(Vec::new()),
                other => other,
            },
            Self::ReplayBuffer => replay_buffer(path, model),
            Self::Data => draws_from_data(model, config, n, labels, config.seed),
            Self::Informative | Self::Noise => Ok(Vec::new()),
        }
    }

    /// The start, given the images that [`Self::images`] returned.
    pub(crate) fn start(self, images: &[f32]) -> Start<'_> {
        match self {
            Self::Trained if images.is_empty() => Start::StartSamples,
            Self::Trained => Start::Pool(images),
            Self::Informative => Start::StartSamples,
            Self::Noise => Start::Noise,
            Self::ReplayBuffer => Start::Pool(images),
            Self::Data => Start::Images(images),
        }
    }
}

/// Settings of the sampler that replace those the model was trained with, where they are given.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SamplerOverrides {
    /// Langevin steps of each chain.
    pub steps: Option<u32>,
    /// Size of an inner step.
    pub step_size: Option<f64>,
    /// Inner steps per gradient evaluation.
    pub inner_steps: Option<usize>,
    /// Bound on each component of the gradient; 0 for none.
    pub clip: Option<f64>,
    /// Standard deviation of the noise after the inner steps.
    pub noise: Option<f64>,
    /// The batch-norm statistics that chains see.
    pub bn: Option<ChainBn>,
    /// Seed of starts and noise.
    pub seed: Option<u64>,
}

impl SamplerOverrides {
    /// The model's configuration, or the preset `jempp` if it carries none, with these settings.
    ///
    /// # Errors
    /// [`Error::Config`] for a value out of range; those of [`Model::config`].
    pub(crate) fn config(&self, model: &Model) -> Result<Config> {
        let mut config = model.config()?.map_or_else(|| Config::preset("jempp"), Ok)?;
        let s = &mut config.sampler;
        s.step_size = self.step_size.unwrap_or(s.step_size);
        s.inner_steps = self.inner_steps.unwrap_or(s.inner_steps);
        s.clip = self.clip.unwrap_or(s.clip);
        s.noise = self.noise.unwrap_or(s.noise);
        config.seed = self.seed.unwrap_or(config.seed);
        config.validate()?;
        Ok(config)
    }
}

/// What the chains are conditioned on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conditioning {
    /// Nothing: chains sample p(x).
    None,
    /// One class: chains sample p(x, y).
    Class(i32),
    /// Every class in turn, the same number of chains each.
    EveryClass,
}

impl Conditioning {
    /// The class of each chain, and the columns of a grid, for at least `n` chains of a model of `classes` classes. With
    /// [`Self::EveryClass`] `n` is rounded up to a multiple of `classes`.
    pub(crate) fn labels(self, n: usize, classes: usize) -> (Option<Vec<i32>>, usize) {
        match self {
            Self::EveryClass => {
                let each = n.div_ceil(classes);
                (Some((0..each * classes).map(|i| (i / each) as i32).collect()), each)
            }
            Self::Class(k) => (Some(vec![k; n]), COLUMNS),
            Self::None => (None, COLUMNS),
        }
    }
}

/// Whether frames of the chains are kept, to be shown as an animation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Animation {
    /// No frames.
    None,
    /// The number of Langevin steps from one frame to the next; with `None` at most 51 frames are kept.
    Every(Option<u32>),
}

/// What to sample.
#[derive(Clone, Copy, Debug)]
pub struct SampleJob<'a> {
    /// The model, and the path it was loaded from.
    pub model: (&'a Model, &'a Path),
    /// Number of chains, before rounding.
    pub n: usize,
    /// What they are conditioned on.
    pub conditioning: Conditioning,
    /// Where they start.
    pub start: ChainStart,
    /// Settings of the sampler.
    pub overrides: SamplerOverrides,
    /// Whether to keep frames of the chains for an animation.
    pub animate: Animation,
}

/// Sampled images, and the settings they were sampled with.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// Images and their scores.
    pub samples: Samples,
    /// Frames of the chains, each n×H×W×C; empty if they were not kept.
    pub frames: Vec<Vec<f32>>,
    /// Columns of a grid of the images.
    pub columns: usize,
    /// Whether chains were conditioned on classes.
    pub conditioned: bool,
    /// Langevin steps of each chain.
    pub steps: u32,
    /// Size of their inner steps.
    pub step_size: f64,
    /// Seed of starts and noise.
    pub seed: u64,
}

impl SampleJob<'_> {
    /// Runs the chains. `progress` is told steps done and steps in total.
    ///
    /// # Errors
    /// [`Error::Config`] for no images, settings out of range, or too many chains for an animation; those of
    /// [`sample_with_trajectory`].
    pub fn run(&self, progress: &mut dyn FnMut(u32, u32) -> bool) -> Result<Sampled> {
        let (model, _) = self.model;
        let (labels, columns) = self.conditioning.labels(self.n, model.network().config.classes);
        let n = labels.as_ref().map_or(self.n, Vec::len);
        let config = self.overrides.config(model)?;
        if self.n == 0 {
            return Err(Error::Config("at least one image must be sampled, not 0".into()));
        }
        let images = self.start.images(self.model, &config, (n, labels.as_deref()))?;
        let conditioned = labels.is_some();
        let start = self.start.start(&images);
        let mut options = SampleOptions { n, labels, start, ..SampleOptions::new(&config) };
        let round = options.steps;
        options.steps = self.overrides.steps.unwrap_or(round);
        if self.overrides.step_size.is_none() && self.start != ChainStart::Noise {
            refine(&mut options, round, self.overrides.noise.is_none());
        }
        options.bn = self.overrides.bn.unwrap_or(options.bn);
        let mut trajectory = self.trajectory(n, options.steps)?;
        let samples = sample_with_trajectory(model, &options, trajectory.as_mut(), progress)?;
        let frames = trajectory.map(|t| t.frames).unwrap_or_default();
        let (steps, seed) = (options.steps, options.seed);
        let step_size = options.sampler.step_size;
        Ok(Sampled { samples, frames, columns, conditioned, steps, step_size, seed })
    }

    /// Collects the frames, if they are wanted.
    fn trajectory(&self, n: usize, steps: u32) -> Result<Option<Trajectory>> {
        let Animation::Every(every) = self.animate else { return Ok(None) };
        if n > MAX_ANIMATED {
            return Err(Error::Config(format!(
                "{n} chains are too many for an animation; it shows at most {MAX_ANIMATED}"
            )));
        }
        Ok(Some(Trajectory::new(every.unwrap_or_else(|| steps.div_ceil(FRAMES)))))
    }
}

/// Divides the way of a round of training among the steps, if these are more than the `round` has: the model has learnt to tell
/// data from chains that go as far, and not from chains that go on. Step size and noise are those of the same diffusion in finer
/// steps.
fn refine(options: &mut SampleOptions<'_>, round: u32, noise: bool) {
    if options.steps > round && round > 0 {
        let finer = f64::from(round) / f64::from(options.steps);
        options.sampler.step_size *= finer;
        options.sampler.sgld_lr *= finer;
        if noise {
            options.sampler.noise *= finer.sqrt();
        }
    }
}

/// Writes each image, of `size` [H, W, C] with C = 1 or 3, as a PNG file to the new folder `folder`, named by its number and its
/// class: the class's name if `names` has it. Returns the number of files.
///
/// # Errors
/// [`Error::Exists`] if the folder exists; [`Error::Io`]; [`Error::Data`] for images of other channels.
pub fn write_images(folder: &Path, s: &Samples, size: [usize; 3], names: &[String]) -> Result<usize> {
    std::fs::create_dir(folder).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Error::Exists(folder.to_path_buf()),
        _ => Error::io(folder, e),
    })?;
    let plain = |c: char| if c.is_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    for (i, (image, label)) in s.images.chunks_exact(size.iter().product()).zip(&s.labels).enumerate() {
        let name = usize::try_from(*label).ok().and_then(|l| names.get(l));
        let class = name.map_or(label.to_string(), |n| n.chars().map(plain).collect());
        write_image(&folder.join(format!("{i:05}-{class}.png")), image, size)?;
    }
    Ok(s.labels.len())
}

/// Writes `images` (n×H×W×C, in [−1, 1]), `labels`, `log_density` and `confidence` to a NumPy archive.
///
/// # Errors
/// [`Error::Io`].
pub fn write_npz(path: &Path, s: &Samples, [h, w, c]: [usize; 3]) -> Result<()> {
    let n = s.labels.len();
    let labels: Vec<i64> = s.labels.iter().map(|l| i64::from(*l)).collect();
    let arrays = [
        ("images", Array::F32(&[n, h, w, c], &s.images)),
        ("labels", Array::I64(&[n], &labels)),
        ("log_density", Array::F32(&[n], &s.log_density)),
        ("confidence", Array::F32(&[n], &s.confidence)),
    ];
    Ok(npz::write(path, &arrays)?)
}
