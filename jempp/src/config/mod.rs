//! The configuration of a run: a preset, then a TOML file, then `key=value` overrides.
//!
//! Invariant: a [`Config`] that came from [`Config::from_sources`] is complete and valid, and
//! [`Config::to_toml`] writes one that reads back equal. Names, kinds and descriptions of the keys stand in one
//! table, [`keys::KEYS`].

mod draft;
pub mod keys;
mod limits;
mod merge;
mod presets;
mod validate;
mod write;

#[cfg(test)]
mod tests;

use crate::error::Result;
pub use jempp_data::config::{Crop, DataConfig, LabelKind};
use serde::{Deserialize, Serialize};

pub use draft::Draft;
pub use presets::PRESETS;

/// Everything that a run depends on, beside its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seed of all randomness; at most 2⁶³ − 1, TOML's largest integer.
    pub seed: u64,
    /// Name of the preset that the defaults came from.
    pub preset: String,
    /// The network.
    pub model: ModelConfig,
    /// The training loop.
    pub train: TrainConfig,
    /// The Langevin sampler and its replay buffer.
    pub sampler: SamplerConfig,
    /// The data and its augmentation.
    pub data: DataConfig,
    /// How models are judged.
    pub eval: EvalConfig,
}

/// What normalises activations before each rectifier, as in the published Wide-ResNet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NormKind {
    /// Batch norm with running statistics.
    #[default]
    Batch,
    /// Each channel of each image by its own mean and variance, with scale and shift.
    Instance,
    /// Each image by its mean and variance over all channels, with scale and shift a channel.
    Layer,
    /// ActNorm, scale·(x + loc) a channel; the first training batch sets both so that its channels have mean 0 and
    /// variance 1.
    Act,
    /// Nothing.
    None,
}

/// A Wide-ResNet (Zagoruyko & Komodakis, 2016) as JEM++ builds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Number of layers, 6n + 4.
    pub depth: usize,
    /// Factor k of the widths 16k, 32k, 64k.
    pub widen_factor: usize,
    /// Height, width and channels of an image.
    pub image_size: [usize; 3],
    /// Number of classes.
    pub classes: usize,
    /// Fraction of the new value in a running statistic (PyTorch's sense), in [0, 1].
    pub bn_momentum: f64,
    /// Slope of the leaky ReLU for negative values.
    pub leak: f64,
    /// What normalises activations. This and what follows may be missing in the files of older versions.
    #[serde(default)]
    pub norm: NormKind,
    /// Share of the values between a block's two convolutions that each training pass and chain step drops.
    #[serde(default)]
    pub dropout: f64,
    /// Whether log p(x) is the output of a linear head of its own, not the logsumexp of the logits.
    #[serde(default)]
    pub energy_head: bool,
}

/// Where in an iteration log p(x) of the data is computed. `Alltrain1` and `Alltrain2` have equal gradients;
/// the order in which batches move the running statistics differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plc {
    /// Before sampling, with batch statistics.
    Alltrain1,
    /// After sampling, with batch statistics.
    Alltrain2,
    /// After sampling, data and chains with running statistics.
    Eval,
}

/// How gradients move the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum, as `torch.optim.SGD`.
    Sgd,
    /// Adam, as `torch.optim.Adam`.
    Adam,
}

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It falls by `decay_rate` at each of `decay_epochs`.
    Steps,
    /// It falls along half a cosine to `lr_min` at the end of the run.
    Cosine,
    /// It stays.
    Constant,
}

/// What attacks the labelled images in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Adversary {
    /// Nothing.
    None,
    /// PGD within the largest change of a value.
    Linf,
    /// PGD within the length of the change.
    L2,
}

/// The training loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Images for p(x), and chains, an iteration.
    pub batch_size: usize,
    /// Labelled images an iteration; 0 means `batch_size`.
    pub labelled_batch_size: usize,
    /// Passes over the images for p(x).
    pub epochs: usize,
    /// Bound on the iterations of the whole run; 0 means none.
    pub max_iters: usize,
    /// How gradients move the weights.
    pub optimizer: Optimizer,
    /// Learning rate after the warm-up.
    pub lr: f64,
    /// Momentum of SGD.
    pub momentum: f64,
    /// β₁ of Adam.
    pub beta1: f64,
    /// β₂ of Adam.
    pub beta2: f64,
    /// Weight decay, on every parameter, added to its gradient.
    pub weight_decay: f64,
    /// Iterations over which the learning rate rises linearly from 0.
    pub warmup_iters: usize,
    /// How the learning rate goes on after the warm-up.
    pub schedule: Schedule,
    /// Where the schedule `Cosine` ends.
    pub lr_min: f64,
    /// Epochs (counted from 0) at whose start the learning rate is multiplied by `decay_rate`.
    pub decay_epochs: Vec<usize>,
    /// Factor of the learning rate at each of `decay_epochs`.
    pub decay_rate: f64,
    /// Share d of the old value in the moving average a ← d·a + (1 − d)·w of the weights, which is then what is judged
    /// and served; 0 keeps none.
    pub ema: f64,
    /// Weight of the log p(x) term.
    pub p_x_weight: f64,
    /// Weight of the cross-entropy.
    pub p_y_given_x_weight: f64,
    /// Weight of the log p(x, y) term.
    pub p_x_y_weight: f64,
    /// Whether the labelled images are attacked before the network learns from them (Madry et al., ICLR 2018), and in
    /// which ball. Only without log p(x).
    pub adversary: Adversary,
    /// Radius of the ball, in units of pixels in [0, 1].
    pub adversary_epsilon: f64,
    /// Length of a step of the attack, in the same units.
    pub adversary_step: f64,
    /// Steps of the attack.
    pub adversary_steps: usize,
    /// Where log p(x) of the data is computed.
    pub plc: Plc,
    /// Weight of meanᵢ f(x_data)ᵢ² + meanᵢ f(x_chain)ᵢ² (squares per image).
    pub energy_l2: f64,
    /// Bound on |mean f(x_data) − mean f(x_chain)| beyond which training counts as collapsing; 0 turns it off.
    pub collapse_gap: f64,
    /// Iterations in a row beyond `collapse_gap` that end the run.
    pub collapse_iters: usize,
    /// Bound on |loss|; beyond it, or at a NaN, the run ends.
    pub loss_limit: f64,
    /// Epochs between evaluations on validation and test data.
    pub eval_every: usize,
    /// Epochs between checkpoints.
    pub checkpoint_every: usize,
    /// Epochs between grids of samples; 0 means none.
    pub sample_every: usize,
    /// Iterations between lines of metrics.
    pub log_every: usize,
    /// Whether the run writes event files for TensorBoard into its folder `tb`.
    pub tensorboard: bool,
}

/// What fills the replay buffer and what chains restart from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// A normal with the mean and covariance of a class.
    Informative,
    /// Uniform noise in [−1, 1].
    Uniform,
}

/// Which classes informative restarts are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prior {
    /// Classes as often as in the data (the paper).
    Data,
    /// All classes equally often (the published code).
    Uniform,
}

/// The Langevin sampler and its replay buffer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplerConfig {
    /// M: gradient evaluations a chain an iteration.
    pub outer_steps: usize,
    /// N: steps with each gradient.
    pub inner_steps: usize,
    /// α: size of one inner step.
    pub step_size: f64,
    /// ε: bound on each component of the gradient; 0 means none.
    pub clip: f64,
    /// Whether each step is clipped to [−1, 1].
    pub in_box: bool,
    /// Size of one more step with the gradient before the inner ones; 0 as published.
    pub sgld_lr: f64,
    /// Standard deviation of the noise added after the inner steps; 0 as published.
    pub noise: f64,
    /// Whether to clip to [−1, 1] again after the noise.
    pub clip_after_noise: bool,
    /// Images in the replay buffer.
    pub buffer_size: usize,
    /// Share of chains that restart from `init`.
    pub reinit_freq: f64,
    /// Share of chains that restart from uniform noise, beside `reinit_freq`.
    pub uniform_reinit_freq: f64,
    /// What the buffer is filled with and chains restart from.
    pub init: Init,
    /// Which classes informative restarts are drawn from.
    pub init_prior: Prior,
    /// Whether to run the N inner steps one by one instead of as the one step that equals them.
    pub literal: bool,
}

/// Which statistics batch normalisation uses in evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvalBn {
    /// Recomputed over the training images at the end.
    Recalibrated,
    /// The running ones, as published.
    Running,
}

/// How models are judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    /// Statistics used by batch normalisation.
    pub bn: EvalBn,
    /// Batches used in recalibration; 0 means the whole training set.
    pub recalibration_batches: usize,
    /// Bins of the expected calibration error.
    pub ece_bins: usize,
    /// Images a forward pass.
    pub batch_size: usize,
}

impl Config {
    /// Builds a configuration from a preset, an optional TOML document `(text, name)` and overrides `key=value`,
    /// later ones winning. The preset is the last of: `default_preset`, the document's `preset`, the overrides'.
    ///
    /// An override's value is read as TOML, and as a bare string where it is none.
    ///
    /// # Errors
    /// [`crate::Error::Config`], naming the source, the key, what was found and what was expected, for a
    /// malformed document, an unknown preset or key, a value of the wrong type or out of range.
    pub fn from_sources(
        default_preset: &str,
        toml: Option<(&str, &str)>,
        overrides: &[String],
    ) -> Result<Self> {
        Draft::from_sources(default_preset, toml, overrides)?.finish()
    }

    /// The defaults of a preset.
    ///
    /// # Errors
    /// [`crate::Error::Config`] when there is none of that name.
    pub fn preset(name: &str) -> Result<Self> {
        presets::preset(name)
    }

    /// A complete TOML document in which every key is described; it reads back equal.
    ///
    /// # Errors
    /// [`crate::Error::Config`] when a number has no TOML form (a seed above 2⁶³ − 1); never for a valid one.
    pub fn to_toml(&self) -> Result<String> {
        write::to_toml(self)
    }

    /// What differs from the preset, as overrides would give it: `train.lr=0.2`, in the order of [`keys::KEYS`].
    ///
    /// # Errors
    /// [`crate::Error::Config`] when the preset is unknown.
    pub fn changes(&self) -> Result<Vec<String>> {
        write::changes(self)
    }

    /// Checks every value and the relations between them.
    ///
    /// # Errors
    /// [`crate::Error::Config`], naming the key, its value and the allowed range.
    pub fn validate(&self) -> Result<()> {
        validate::validate(self)
    }
}
