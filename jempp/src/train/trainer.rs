//! Training inside a host program, which gives the batches.
//!
//! Invariants: a step is a function of the trainer's state and the batch alone, and a trainer that was saved and resumed
//! continues bit for bit. A data set, where there is one, serves only the starts of chains and the final statistics of
//! batch norm; no image of it is trained on unless the host gives it.

use super::export::start_samples;
use super::init_images::InitImages;
use super::warm::adopt_network;
use super::{Batch, Guard, Options, StepMetrics, TrainState, TrainStep};
use super::{describe, served_bn, served_model};
use crate::checkpoint::FolderLock;
use crate::config::{Config, ConfigBuilder, Init, NormKind, Schedule, TrainBn};
use crate::error::{Error, Result};
use crate::model::Model;
use engine::Device;
use jempp_data::{Dataset, Reading, Split};
use std::path::{Path, PathBuf};

/// Trains a model on the batches that a host program gives, one step at a time.
///
/// ```
/// use jempp::{Batch, Config, Device, Trainer};
///
/// # fn main() -> jempp::Result<()> {
/// // A small network for 8×8 grey images in 10 classes, trained with chains from noise.
/// let small = ["train.batch_size=4", "train.schedule=constant", "sampler.init=uniform"].map(String::from);
/// let config = Config::from_sources("digits", None, &small)?;
/// let mut trainer = Trainer::new(&config, &Device::cpu(0))?;
///
/// let (images, labels) = (vec![0.5; 4 * 64], [3, 1, 4, 1]);
/// let batch = Batch { x_data: &images, x_labelled: &images, labels: &labels, chain_start: None };
/// let metrics = trainer.step(&batch)?;
/// assert!(metrics.step == 1 && metrics.loss.is_finite());
///
/// let model = trainer.model()?; // a snapshot
/// assert_eq!(model.logits(&images)?.len(), 4 * 10);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Trainer {
    pub(super) step: TrainStep,
    pub(super) data: Option<(Dataset, Split)>,
    /// Without a data set, what chains restart from.
    pub(super) init: Option<InitImages>,
    /// Iterations per epoch, and of the whole schedule.
    schedule: [u64; 2],
    pub(super) guard: Guard,
}

impl Trainer {
    /// A trainer without a data set, with fresh weights or those that `train.from` names. Chains start where each step says,
    /// unless there is a replay buffer: after [`Trainer::set_init_images`], with the start samples of a model
    /// ([`Trainer::load_model`], `train.from`), or of noise with `sampler.init = "uniform"`.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration needs a data set: an average of the weights (`train.ema`) with batch
    /// norm, or a schedule in epochs without `train.max_iters`; [`Error::Data`] if the model that `train.from` names does
    /// not fit; [`Error::OutOfMemory`].
    pub fn new(config: &Config, device: &Device) -> Result<Self> {
        Self::build(config, device, None, None)?.started()
    }

    /// A trainer with a data set, with fresh weights or those that `train.from` names. From the data set chains restart and on which the statistics of batch norm are
    /// recalibrated.
    ///
    /// # Errors
    /// [`Error::Config`] if the data set does not fit the model; [`Error::Data`] if the model that `train.from` names does
    /// not; [`Error::OutOfMemory`].
    pub fn with_data(config: &Config, device: &Device, set: Dataset, split: Split) -> Result<Self> {
        Self::build(config, device, Some((set, split)), None)?.started()
    }

    /// A trainer from a TOML document (preset `jempp` unless it names another). The data set is loaded if
    /// the document names `data.dataset`, or for the preset `digits`, whose images are built in. `seed` is used if the
    /// document has none; 0 stands for the preset's seed. With `train.from`, keys of the network that the document does not
    /// give take the values of that model.
    ///
    /// ```
    /// use jempp::{Device, Trainer};
    ///
    /// # fn main() -> jempp::Result<()> {
    /// let toml = "preset = \"digits\"\n[train]\nbatch_size = 16\n[sampler]\nbuffer_size = 100\n";
    /// let trainer = Trainer::from_toml(toml, 7, &Device::cpu(0))?;
    /// assert_eq!((trainer.config().seed, trainer.chain_count()), (7, 16));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if the document is not valid, or as in [`Trainer::new`]; [`Error::Data`] if the data set is missing;
    /// [`Error::OutOfMemory`].
    pub fn from_toml(text: &str, seed: u64, device: &Device) -> Result<Self> {
        let mut builder = ConfigBuilder::from_sources("jempp", Some((text, "the configuration")), &[])?;
        if seed != 0 {
            builder = builder.default_seed(seed);
        }
        adopt_network(&mut builder)?;
        if !builder.is_given("data.dataset") && builder.config().preset != "digits" {
            return Self::new(&builder.finish()?, device);
        }
        let reading = Reading { default_valid_size: builder.default_valid_size(), ..Reading::on(device) };
        let data = jempp_data::load_with(&builder.data(), reading)?;
        data.warnings.iter().for_each(|w| tracing::warn!("{w}"));
        let warm = !builder.config().train.from.is_empty();
        let config = if builder.is_open() || warm { builder.fit_to(&data)? } else { builder.finish()? };
        Self::with_data(&config, device, data.set, data.split)
    }

    /// A trainer that continues from the last intact checkpoint in the folder `dir` of [`Trainer::save`] or of a
    /// training run.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no checkpoint, or the data set has changed since; [`Error::Format`] if no checkpoint is
    /// intact.
    pub fn resume(dir: &Path, device: &Device) -> Result<Self> {
        let (state, warnings) = TrainState::load(dir)?;
        warnings.iter().for_each(|w| tracing::warn!("{w}"));
        let config = state.config(&[])?;
        let data = if state.has_data() {
            let data = jempp_data::load(&config.data, Reading::on(device))?;
            state.check_data(&data.0)?;
            Some(data)
        } else {
            None
        };
        let init = InitImages::read(&config.model, state.tensors())?;
        let mut trainer = Self::build(&config, device, data, init)?;
        state.restore(&mut trainer.step)?;
        trainer.guard = Guard::new(&trainer.step, None)?;
        state.restore_guard(&mut trainer.guard, &trainer.step)?;
        Ok(trainer)
    }

    fn build(
        config: &Config,
        device: &Device,
        data: Option<(Dataset, Split)>,
        init: Option<InitImages>,
    ) -> Result<Self> {
        config.validate()?;
        if !config.stage.is_empty() {
            let why =
                "stages are for training runs: a host program makes a trainer for each, with train.from";
            return Err(Error::Config(why.into()));
        }
        let t = &config.train;
        let total = if t.max_iters == 0 { u64::MAX } else { t.max_iters as u64 };
        let schedule = match &data {
            Some((_, split)) => {
                let per_epoch = (split.train.len() / t.batch_size).max(1) as u64;
                [per_epoch, total.min(per_epoch * t.epochs as u64)]
            }
            None => {
                check_without_data(config)?;
                [(total / t.epochs as u64).max(1), total]
            }
        };
        // Restarts from noise read no training images, so any will do.
        let uniform = config.sampler.init == Init::Uniform && init.is_none();
        let placeholder = (data.is_none() && uniform).then(|| black_images(config)).transpose()?;
        let given = data.as_ref().or(placeholder.as_ref()).map(|(set, split)| (set, &split.train[..]));
        let handed = init.as_ref().map(InitImages::data);
        let given = given.or(handed.as_ref().map(|(set, all)| (*set, &all[..])));
        let mut step = TrainStep::new(config, device, given, Options::default())?;
        if let Some(init) = &init {
            init.apply(&mut step)?;
        }
        let guard = Guard::new(&step, None)?;
        Ok(Self { step, data, init, schedule, guard })
    }

    /// One iteration: the chain steps of a sampling round, one pass over data, chains and labelled images, and one update with
    /// the learning rate of the configured schedule.
    ///
    /// If training diverges, and `train.on_divergence` is `"rollback"`, the trainer goes back to a good state some iterations
    /// before, lowers learning rate or step size ([`TrainStep::recovery`]), says so in the log, and does the iteration on
    /// this batch from there: [`StepMetrics::step`] is then less than before.
    ///
    /// # Errors
    /// [`Error::Data`] for batches of another size than configured, a label out of range, a value that is not finite, or
    /// missing chain starts; [`Error::Diverged`] if training diverges and does not recover.
    pub fn step(&mut self, batch: &Batch<'_>) -> Result<StepMetrics> {
        let [per_epoch, total] = self.schedule;
        loop {
            let lr = self.step.learning_rate(per_epoch, total);
            let metrics = self.step.step(batch, lr)?;
            let mut failure = self.guard.observe(&self.step, &metrics)?;
            if failure.is_none() && self.guard.is_due(metrics.step) {
                failure = self.guard.inspect(&self.step)?;
            }
            let Some(failure) = failure else {
                if self.guard.is_due(metrics.step) {
                    self.guard.keep(&self.step, None)?;
                }
                return Ok(metrics);
            };
            let advice = "use a lower train.lr, train.energy_l2 or more sampler.outer_steps";
            let back = self.guard.go_back(&mut self.step, failure).map_err(|e| match e {
                Error::Diverged(why) => Error::Diverged(format!("{why}; {advice}")),
                other => other,
            })?;
            tracing::warn!("{back}");
        }
    }

    /// A copy of the model as it is now, which later steps do not change. Batch norm has the statistics that `eval.bn` names,
    /// or without a data set the running statistics.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Data`] if there are too few images to recalibrate on.
    pub fn model(&self) -> Result<Model> {
        let data = self.data.as_ref();
        let mut model = served_model(&self.step, data.map(|(set, split)| (set, split)))?;
        if self.init.is_some() {
            model.set_start_samples(start_samples(&self.step)?);
        }
        let bn = served_bn(&self.step, data.is_some());
        describe(&mut model, &self.step, data.map(|(set, _)| set), bn)?;
        Ok(model)
    }

    /// Replaces weights and running statistics by those of a model of the same architecture; if it has another number of
    /// classes, the class head stays as it is, with a warning in the log. Optimiser and counters stay as they are. Chains
    /// that have nothing to restart from get the start samples that the model carries, and a replay buffer of them.
    ///
    /// # Errors
    /// [`Error::Data`] if the model's architecture differs, naming tensors and both shapes.
    pub fn load_model(&mut self, model: &Model) -> Result<()> {
        let notes = self.step.load_weights(model)?;
        notes.iter().for_each(|note| tracing::warn!("{note}"));
        self.adopt_samples(model.start_samples()?)?;
        self.guard = Guard::new(&self.step, None)?;
        Ok(())
    }

    /// Saves a checkpoint in the folder `dir`, which is created if it does not exist, and keeps the last three. Returns the
    /// checkpoint's folder; [`Model::load`] and [`Trainer::resume`] take `dir`.
    ///
    /// ```
    /// use jempp::{Batch, Config, Device, Model, Trainer};
    ///
    /// # fn main() -> jempp::Result<()> {
    /// # let dir = tempfile::tempdir().map_err(|e| jempp::Error::io("a temporary folder", e))?;
    /// # let dir = dir.path();
    /// # let small = ["train.batch_size=4", "train.schedule=constant", "sampler.init=uniform"].map(String::from);
    /// # let config = Config::from_sources("digits", None, &small)?;
    /// # let device = Device::cpu(0);
    /// # let (images, labels) = (vec![0.5; 4 * 64], [3, 1, 4, 1]);
    /// # let batch = Batch { x_data: &images, x_labelled: &images, labels: &labels, chain_start: None };
    /// let mut trainer = Trainer::new(&config, &device)?;
    /// trainer.step(&batch)?;
    /// trainer.save(dir)?;
    ///
    /// let model = Model::load(&device, dir)?; // to classify and sample with
    /// let mut again = Trainer::resume(dir, &device)?; // to train on, as if nothing had happened
    /// assert_eq!(again.step(&batch)?.loss, trainer.step(&batch)?.loss);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Data`] if another process trains into the folder; [`Error::Diverged`] if a weight is not finite,
    /// and then nothing is saved.
    pub fn save(&self, dir: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        let _lock = FolderLock::acquire(dir)?;
        let set = self.data.as_ref().map(|(set, _)| set);
        let mut state = TrainState::of((&self.step, &self.guard), (self.config(), 0), set, None)?;
        state.add(self.init.iter().flat_map(InitImages::to_tensors));
        state.save(dir, &self.model()?, false)
    }

    /// The chains after the last step, n×H×W×C; empty if log p(x) is not trained.
    ///
    /// # Errors
    /// If a GPU fails.
    pub fn chains(&self) -> Result<Vec<f32>> {
        self.step.chains()
    }

    /// The number of chains of log p(x): `train.batch_size`, or 0 if log p(x) is not trained.
    pub fn chain_count(&self) -> usize {
        let t = &self.config().train;
        if t.p_x_weight == 0.0 { 0 } else { t.batch_size }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        self.step.config()
    }

    /// The training step, with all tensors and the counters.
    pub fn train_step(&self) -> &TrainStep {
        &self.step
    }
}

/// [`Error::Config`] if the configuration needs a data set.
fn check_without_data(config: &Config) -> Result<()> {
    let t = &config.train;
    if t.schedule != Schedule::Constant && t.max_iters == 0 {
        return Err(Error::Config(
            "without a data set nothing says how long train.schedule is: set train.max_iters, or \
             train.schedule = \"constant\", or name data.dataset"
                .into(),
        ));
    }
    let moving = config.model.norm == NormKind::Batch && t.bn == TrainBn::Batch;
    if t.ema > 0.0 && moving {
        return Err(Error::Config(
            "train.ema needs images for the statistics of the averaged weights: name data.dataset, or set train.ema = 0"
                .into(),
        ));
    }
    Ok(())
}

/// One black image of each class.
fn black_images(config: &Config) -> Result<(Dataset, Split)> {
    let m = &config.model;
    let labels: Vec<u16> = (0..m.classes).map(|c| u16::try_from(c).unwrap_or(u16::MAX)).collect();
    let images = vec![0; m.classes * m.image_size.iter().product::<usize>()];
    let set = Dataset::new("noise", m.image_size, m.classes, images, labels)?;
    let split = Split { train: (0..m.classes as u32).collect(), valid: Vec::new(), test: Vec::new() };
    Ok((set, split))
}
