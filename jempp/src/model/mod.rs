//! A trained model: logits, unnormalised log density, input gradients, and when to abstain.
//!
//! Invariants: a model is immutable while it computes and may be used from several threads at once, each call borrowing
//! compiled programs from a bounded pool. Loading reads no more than a first call needs: the start samples stay in
//! their file until chains ask for them.

mod classes;
mod file;
pub mod inputs;
mod losses;
mod pool;
pub mod predict;
pub mod published;
mod scores;
pub mod source;
mod start_samples;
pub mod thresholds;

use crate::checkpoint::LazyReader;
use crate::config::{Config, ModelConfig};
use crate::error::{Error, Result};
use crate::network::{Network, get, listing};
use engine::{Device, Spec, State};
pub use file::FORMAT;
pub(crate) use file::{
    IMAGE_SIZE, PREPROCESSING, REPLAY_BUFFER, VARIANT, architecture, read_tensor, write_tensor,
};
use jempp_formats::container::Container;
pub use losses::Loss;
use pool::Pool;
pub use scores::Scores;
use source::ModelSource;
pub use start_samples::StartSamples;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use thresholds::Thresholds;

/// A trained model on a device: classifies, and gives log p(x) up to a constant and its gradient.
///
/// ```no_run
/// use jempp::{Device, Model};
///
/// # fn main() -> jempp::Result<()> {
/// let model = Model::load(&Device::cpu(0), "runs/train-001".as_ref())?;
/// let images = vec![0.0; 2 * 8 * 8]; // two images, N×H×W×C in [−1, 1]
/// let scores = model.scores(&images)?; // or model.logits, model.log_density, model.input_grad
/// println!("{:?} {:?}", scores.logits, scores.log_density);
/// # Ok(())
/// # }
/// ```
pub struct Model {
    device: Device,
    state: State,
    network: Network,
    /// Metadata strings by key, such as `step`, `dataset` and `config`; saved with the model.
    pub metadata: BTreeMap<String, String>,
    start_samples: OnceLock<Option<StartSamples>>,
    /// The file that has the start samples, until they are asked for.
    file: Option<LazyReader>,
    thresholds: Option<Thresholds>,
    pool: Pool,
}

impl core::fmt::Debug for Model {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Model({:?}, {:?})", self.network.config, self.device)
    }
}

impl Model {
    /// A model with the architecture `config`, whose tensors `fill` returns by their published names, in memory's axis
    /// order (filters K×R×S×C).
    ///
    /// # Errors
    /// Those of `fill`; [`Error::OutOfMemory`], or [`Error::Engine`] when the device refuses.
    pub fn new(
        device: &Device,
        config: &ModelConfig,
        mut fill: impl FnMut(&str, &Spec) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let mut state = State::on(device);
        let network = Network::with_dtype(&mut state, config, device.activations())?;
        for (name, slot) in network.tensors() {
            let values = fill(&name, &slot.spec)?;
            state.set(slot, &values)?;
        }
        network.round(&mut state)?;
        Ok(Self {
            device: device.clone(),
            state,
            network,
            metadata: BTreeMap::new(),
            start_samples: OnceLock::new(),
            file: None,
            thresholds: None,
            pool: Pool::new(device.concurrency() + 1),
        })
    }

    /// Loads a model from a run folder, a checkpoint folder, a published PyTorch checkpoint or a safetensors file. A
    /// safetensors file is memory-mapped: it may be replaced or deleted while the model lives, but not written into.
    ///
    /// # Errors
    /// [`Error::Data`] if there is none; [`Error::Format`] if it is corrupt or holds values that are not finite.
    pub fn load(device: &Device, path: &Path) -> Result<Self> {
        Self::from_source(device, ModelSource::open(path)?)
    }

    /// Loads a model from the bytes of its file, in any format that [`Model::load`] reads.
    ///
    /// # Errors
    /// Those of [`Model::load`].
    pub fn from_bytes(device: &Device, bytes: Vec<u8>) -> Result<Self> {
        Self::from_source(device, ModelSource::from_bytes(bytes, "the model in memory".as_ref())?)
    }

    /// A model from its file's content.
    ///
    /// # Errors
    /// If a tensor is missing, has another shape, or holds values that are not finite.
    pub fn from_container(device: &Device, c: &Container) -> Result<Self> {
        architecture(c)?;
        c.check_finite()?;
        Self::from_source(device, ModelSource::Whole(Cow::Borrowed(c)))
    }

    /// A model from a file that has been opened; of a lazy reader the start samples are read when they are first needed.
    ///
    /// # Errors
    /// Those of [`Model::load`].
    pub fn from_source(device: &Device, source: ModelSource<'_>) -> Result<Self> {
        let config = architecture(&source.header())?;
        // Before memory is allocated for a network, its tensors must be known to exist.
        listing::tensors(&config, |name, shape| source.expect(&name, shape))?;
        let fill = |name: &str, spec: &Spec| read_tensor(&*source.tensors(&[name])?, name, spec);
        let mut model = Self::new(device, &config, fill)?;
        model.metadata = source.header().meta.clone();
        model.thresholds = Thresholds::read(&model.metadata, &*source.tensors(&[thresholds::TENSOR])?)?;
        match source {
            ModelSource::Lazy(reader) => {
                model.file = Some(reader).filter(|r| r.has(start_samples::NAMES[0]));
            }
            ModelSource::Whole(c) => {
                let samples = StartSamples::read(&c, config.image_size, config.classes)?;
                model.start_samples = OnceLock::from(samples);
            }
        }
        Ok(model)
    }

    /// Writes the model to a safetensors file, replacing an existing one.
    ///
    /// # Errors
    /// [`Error::Io`], and those of [`Model::to_container`].
    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(self.to_container()?.write(path)?)
    }

    /// The content of the model's file: architecture, preprocessing, weights, batch norm statistics, start samples,
    /// thresholds and metadata.
    ///
    /// # Errors
    /// [`Error::Format`] if start samples that were not needed so far are corrupt in the file the model came from;
    /// [`Error::Engine`] if the device fails to return the weights.
    pub fn to_container(&self) -> Result<Container> {
        let mut tensors = Vec::new();
        for (name, slot) in self.network.tensors() {
            tensors.push(write_tensor(&name, &slot.spec, &get(&self.state, slot)?)?);
        }
        if let Some(samples) = self.start_samples()? {
            tensors.extend(samples.to_tensors(self.network.config.image_size)?);
        }
        let mut container = Container::new(tensors);
        container.meta = self.metadata.clone();
        let architecture = serde_json::to_string(&self.network.config)
            .map_err(|e| Error::Internal(format!("the architecture: {e}")))?;
        for (k, v) in [("format", FORMAT), ("architecture", &architecture), ("preprocessing", PREPROCESSING)]
        {
            container.meta.insert(k.to_owned(), v.to_owned());
        }
        if let Some(t) = &self.thresholds {
            t.write(&mut container)?;
        }
        Ok(container)
    }

    /// The configuration that the model was trained with; a model converted from a PyTorch checkpoint has none.
    ///
    /// # Errors
    /// [`Error::Format`] when the metadata holds something that is not a configuration.
    pub fn config(&self) -> Result<Option<Config>> {
        let Some(text) = self.metadata.get("config") else { return Ok(None) };
        let read = Config::from_sources("jempp", Some((text, "the configuration in the model")), &[]);
        read.map(Some).map_err(|e| Error::Format(e.to_string()))
    }

    /// Replaces mean and variance of each batch norm, in the order of [`Network::norms`].
    ///
    /// # Errors
    /// [`Error::Internal`] if their number is not the network's; [`Error::Engine`] if their lengths are not.
    pub(crate) fn set_statistics(&mut self, statistics: &[(Vec<f32>, Vec<f32>)]) -> Result<()> {
        if statistics.len() != self.network.norms.len() {
            return Err(Error::Internal("statistics of another network".into()));
        }
        for (norm, (mean, var)) in self.network.norms.iter().zip(statistics) {
            self.state.set(norm.mean, mean)?;
            self.state.set(norm.var, var)?;
        }
        Ok(())
    }

    /// Stores start samples in the model.
    pub fn set_start_samples(&mut self, samples: StartSamples) {
        self.start_samples = OnceLock::from(Some(samples));
    }

    /// The samples that chains may start from, if the model has any; read from its file at the first call.
    ///
    /// # Errors
    /// [`Error::Format`] if they are corrupt.
    pub fn start_samples(&self) -> Result<Option<&StartSamples>> {
        if let Some(samples) = self.start_samples.get() {
            return Ok(samples.as_ref());
        }
        let ModelConfig { image_size, classes, .. } = self.network.config;
        let read =
            |file: &LazyReader| StartSamples::read(&file.read(&start_samples::NAMES)?, image_size, classes);
        let samples = self.file.as_ref().map_or(Ok(None), read)?;
        Ok(self.start_samples.get_or_init(|| samples).as_ref())
    }

    /// Stores thresholds in the model, by which [`Model::decide`] abstains.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = Some(thresholds);
    }

    /// A model of the same weights with these thresholds, on the same device.
    ///
    /// # Errors
    /// Those of [`Model::to_container`] and [`Model::from_container`].
    pub fn with_thresholds(&self, thresholds: Thresholds) -> Result<Self> {
        let mut other = Self::from_container(&self.device, &self.to_container()?)?;
        other.set_thresholds(thresholds);
        Ok(other)
    }

    /// The thresholds by which the model abstains, if they have been fitted.
    pub fn thresholds(&self) -> Option<&Thresholds> {
        self.thresholds.as_ref()
    }

    /// The network: architecture and parameters.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The device that the model computes on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The state that holds the network's tensors.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// CRC-32C of weights and batch norm statistics, to tell models apart.
    ///
    /// # Errors
    /// [`Error::Engine`] if the device fails to return them.
    pub fn crc32c(&self) -> Result<u32> {
        self.network.tensors().try_fold(0, |crc, (_, slot)| {
            let values = get(&self.state, slot)?;
            Ok(values.iter().fold(crc, |crc, v| crc32c::crc32c_append(crc, &v.to_le_bytes())))
        })
    }
}
