//! Training inside a host program, which brings the images itself.
//!
//! What must hold: a step is a function of the trainer's state and the batch alone, and a trainer that was saved and
//! resumed goes on bit by bit. A data set, where there is one, is for the chains' starts and for batch norm's last
//! statistics only; no image of it is trained on unless the host gives it.

use crate::checkpoint;
use crate::config::{Config, ConfigBuilder, Init, Schedule};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::run::{Folder, STATE_FORMAT, field};
use crate::train::collapse::Watch;
use crate::train::state;
use crate::train::{self, Batch, Counters, Options, StepMetrics};
use engine::Device;
use jempp_data::{Dataset, Reading, Split};
use serde_json::json;
use std::path::{Path, PathBuf};

/// What `format` says in the `state.json` of a checkpoint that a host saved.
const FORMAT: &str = "jempp-host-1";
/// Checkpoints that stay in a folder.
const KEEP: usize = 3;

/// A model in training, one step at a time.
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
    steps: train::Trainer,
    data: Option<(Dataset, Split)>,
    /// Iterations an epoch, and of the whole schedule.
    schedule: [u64; 2],
    watch: Watch,
}

impl Trainer {
    /// A trainer with fresh weights. Chains start where each step says, or with `sampler.init = "uniform"` from a replay
    /// buffer of noise.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration needs data: an average of the weights (`train.ema`) beside batch norm, or a
    /// schedule in epochs without `train.max_iters`; [`Error::OutOfMemory`].
    pub fn new(config: &Config, device: &Device) -> Result<Self> {
        Self::build(config, device, None)
    }

    /// The same with a data set that chains restart from and batch norm's statistics are taken over.
    ///
    /// # Errors
    /// [`Error::Config`] if the data do not fit the model; [`Error::OutOfMemory`].
    pub fn with_data(config: &Config, device: &Device, set: Dataset, split: Split) -> Result<Self> {
        Self::build(config, device, Some((set, split)))
    }

    /// A trainer from a TOML document (preset `jempp` unless it names another). The data set is loaded if `data.dataset` is
    /// named, or the preset is `digits`, whose images are built in. `seed` is for a document that names none; 0 leaves
    /// the preset's.
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
    /// [`Error::Config`]; [`Error::Data`] if the named data set is not there; as [`Trainer::new`].
    pub fn from_toml(text: &str, seed: u64, device: &Device) -> Result<Self> {
        let mut builder = ConfigBuilder::from_sources("jempp", Some((text, "the configuration")), &[])?;
        if seed != 0 {
            builder = builder.default_seed(seed);
        }
        if !builder.is_given("data.dataset") && builder.config().preset != "digits" {
            return Self::new(&builder.finish()?, device);
        }
        let (set, split) = jempp_data::load(&builder.data(), Reading::on(device))?;
        let config =
            if builder.is_open() { builder.fit(set.size(), set.classes())? } else { builder.finish()? };
        Self::with_data(&config, device, set, split)
    }

    /// Goes on from the last good checkpoint in the folder `dir`, of [`Trainer::save`] or of a run of the command line.
    ///
    /// # Errors
    /// [`Error::Data`] if there is none or the data set is another than then; [`Error::Format`] if none is whole.
    pub fn resume(dir: &Path, device: &Device) -> Result<Self> {
        let (c, warnings) = checkpoint::load_last(&dir.join("ckpt"))?;
        warnings.iter().for_each(|w| tracing::warn!("{w}"));
        let format: String = field(&c, "format")?;
        if format != FORMAT && format != STATE_FORMAT {
            let dir = c.dir.display();
            return Err(Error::Format(format!("{dir}: the state is `{format}`, not `{FORMAT}`")));
        }
        let text: String = field(&c, "config")?;
        let config = Config::from_sources("jempp", Some((&text, "the checkpoint's configuration")), &[])?;
        let crc: Option<String> = field(&c, "dataset_crc32c")?;
        let data = crc.map(|crc| same_data(&config, device, &crc)).transpose()?;
        let mut trainer = Self::build(&config, device, data)?;
        state::restore(&mut trainer.steps, &c.trainer)?;
        trainer.steps.set_counters(field::<Counters>(&c, "counters")?)?;
        Ok(trainer)
    }

    fn build(config: &Config, device: &Device, data: Option<(Dataset, Split)>) -> Result<Self> {
        config.validate()?;
        let t = &config.train;
        let total = if t.max_iters == 0 { u64::MAX } else { t.max_iters as u64 };
        let schedule = match &data {
            Some((_, split)) => {
                let per_epoch = (split.train.len() / t.batch_size).max(1) as u64;
                [per_epoch, total.min(per_epoch * t.epochs as u64)]
            }
            None => {
                check_alone(config)?;
                [(total / t.epochs as u64).max(1), total]
            }
        };
        // Restarts from noise read nothing of the images that they could restart from.
        let uniform = config.sampler.init == Init::Uniform;
        let stand_in = (data.is_none() && uniform).then(|| blank(config)).transpose()?;
        let given = data.as_ref().or(stand_in.as_ref()).map(|(set, split)| (set, &split.train[..]));
        let steps = train::Trainer::new(config, device, given, Options::default())?;
        Ok(Self { steps, data, schedule, watch: Watch::new(t) })
    }

    /// One iteration: chains move, one pass over data, chains and labelled images, one update, with the learning rate of
    /// the configured schedule.
    ///
    /// # Errors
    /// [`Error::Data`] for batches of another size than the configuration's, a label out of range, a value that is not
    /// finite, or missing chain starts; [`Error::Diverged`] once the weights are lost.
    pub fn step(&mut self, batch: &Batch<'_>) -> Result<StepMetrics> {
        let [per_epoch, total] = self.schedule;
        let lr = self.steps.learning_rate(per_epoch, total);
        let metrics = self.steps.step(batch, lr)?;
        let advice = "resume from an earlier checkpoint with a lower train.lr or more sampler.outer_steps";
        self.watch.see(&metrics).map_err(|why| Error::Diverged(format!("{why}; {advice}")))?;
        Ok(metrics)
    }

    /// The model as it stands: a snapshot that later steps do not change. Batch norm has the statistics that `eval.bn`
    /// names, and without data the running ones.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or if there are too few images to recalibrate on.
    pub fn model(&self) -> Result<Model> {
        let mut model = state::model(&self.steps, self.data.as_ref().map(|(set, split)| (set, split)))?;
        let bn = state::bn(&self.steps, self.data.is_some());
        state::describe(&mut model, &self.steps, self.data.as_ref().map(|(set, _)| set), bn)?;
        Ok(model)
    }

    /// Takes over weights and running statistics of a model of the same architecture. Optimiser, buffer and counters stay.
    ///
    /// # Errors
    /// [`Error::Data`] if the architecture is another.
    pub fn load_model(&mut self, model: &Model) -> Result<()> {
        self.steps.take_model(model)
    }

    /// Saves a checkpoint in the folder `dir`, made if need be; the last three stay. [`Model::load`] and
    /// [`Trainer::resume`] take `dir`.
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
    /// [`Error::Io`]; [`Error::Diverged`] if a weight is not finite: then nothing is saved.
    pub fn save(&self, dir: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        let _held = Folder::open(dir)?;
        let (model, raw) = state::contents(&self.model()?, &self.steps)
            .map_err(|e| Error::Diverged(format!("nothing was saved: {e}")))?;
        let state = json!({
            "format": FORMAT,
            "counters": self.steps.counters(),
            "config": self.config().to_toml()?,
            "dataset_crc32c": self.data.as_ref().map(|(set, _)| format!("{:08x}", set.crc32c())),
        });
        let step = self.steps.counters().iteration;
        checkpoint::save(&dir.join("ckpt"), step, &model, &raw, &state, false, KEEP)
    }

    /// The chains after the last step, n×H×W×C; empty if log p(x) is not trained.
    ///
    /// # Errors
    /// If a GPU refuses.
    pub fn chains(&self) -> Result<Vec<f32>> {
        self.steps.chains()
    }

    /// Chains that a step moves: `train.batch_size`, or none if log p(x) is not trained.
    pub fn chain_count(&self) -> usize {
        let t = &self.config().train;
        if t.p_x_weight == 0.0 { 0 } else { t.batch_size }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        self.steps.config()
    }

    /// The trainer below, which also takes images by number and learning rates from outside.
    pub fn steps(&self) -> &train::Trainer {
        &self.steps
    }
}

/// The data set of a checkpoint.
fn same_data(config: &Config, device: &Device, then: &str) -> Result<(Dataset, Split)> {
    let (set, split) = jempp_data::load(&config.data, Reading::on(device))?;
    let now = format!("{:08x}", set.crc32c());
    if then != now {
        let name = set.name();
        return Err(Error::Data(format!("data set `{name}` has changed: CRC-32C {then} then, {now} now")));
    }
    Ok((set, split))
}

/// What cannot be done without data.
fn check_alone(config: &Config) -> Result<()> {
    let t = &config.train;
    if t.schedule != Schedule::Constant && t.max_iters == 0 {
        return Err(Error::Config(
            "without a data set nothing says how long train.schedule is: set train.max_iters, or \
             train.schedule = \"constant\", or name data.dataset"
                .into(),
        ));
    }
    if t.ema > 0.0 && config.model.norm == crate::config::NormKind::Batch {
        return Err(Error::Config(
            "train.ema needs images for the statistics of the averaged weights: name data.dataset, or set train.ema = 0"
                .into(),
        ));
    }
    Ok(())
}

/// A black image of each class.
fn blank(config: &Config) -> Result<(Dataset, Split)> {
    let m = &config.model;
    let labels: Vec<u16> = (0..m.classes).map(|c| u16::try_from(c).unwrap_or(u16::MAX)).collect();
    let images = vec![0; m.classes * m.image_size.iter().product::<usize>()];
    let set = Dataset::new("noise", m.image_size, m.classes, images, labels)?;
    let split = Split { train: (0..m.classes as u32).collect(), valid: Vec::new(), test: Vec::new() };
    Ok((set, split))
}
