//! A trained model: logits, unnormalised log density, input gradients; the same for an image in any batch.
//!
//! Invariants: a model is immutable and may be used from several threads at once, each call borrowing programs from a
//! bounded pool; batch norm uses the frozen statistics, and images run in chunks of planned sizes. Loading reads no more
//! than a first call needs: the bank stays in its file until chains ask for it.

mod losses;
mod pool;
pub mod predict;
pub mod thresholds;

use crate::checkpoint::View;
use crate::config::{Config, ModelConfig};
use crate::error::{Error, Result};
use crate::network::{BnMode, Network, Objective, get, listing};
use engine::ops::reduce::SumAll;
use engine::{Device, Host, Spec, State, Tape, grad};
use jempp_formats::container::{Container, Tensor};
pub use losses::Loss;
use pool::{Pool, Program, Want};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use thresholds::Thresholds;

/// What `format` says in the metadata of a model file.
pub const FORMAT: &str = "jempp-model-1";
/// How bytes become inputs.
pub(crate) const PREPROCESSING: &str = "x = (u/255 - 0.5)/0.5";
/// The chains of the training, n×C×H×W, in a trainer's file or, where a model was converted, in its own.
pub(crate) const REPLAY_BUFFER: &str = "replay_buffer";
/// The fact that a converted model has where the size of images is not known but taken for granted.
pub(crate) const IMAGE_SIZE: &str = "image_size";
/// Names of the bank's tensors in the file: classes, means, draws.
const BANK: [&str; 3] = ["init.classes", "init.means", "init.draws"];
/// Images of a program, largest first: n images run as many of the first as fit, then of the next.
const CHUNKS: [usize; 3] = [64, 8, 1];

/// Scores of n images.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Scores {
    /// n×classes.
    pub logits: Vec<f32>,
    /// n: unnormalised log p(x) = logsumexp of the logits, or the output of the energy head.
    pub log_density: Vec<f32>,
}

/// Where chains can start without the training data: draws from the informative law, by class.
#[derive(Clone, Debug, PartialEq)]
pub struct Bank {
    /// classes×H×W×C.
    pub means: Vec<f32>,
    /// Draws, n×H×W×C, in class order.
    pub draws: Vec<f32>,
    /// Their classes.
    pub classes: Vec<i32>,
}

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
    /// Facts about the model, by name; kept when it is saved.
    pub facts: BTreeMap<String, String>,
    bank: OnceLock<Option<Bank>>,
    /// Where the bank is, until it is asked for.
    file: Option<View>,
    thresholds: Option<Thresholds>,
    pool: Pool,
}

impl core::fmt::Debug for Model {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Model({:?}, {:?})", self.network.config, self.device)
    }
}

impl Model {
    /// A model of this shape whose tensors `fill` gives by their published names, in the memory layout.
    ///
    /// # Errors
    /// Those of `fill`, or if there is no memory.
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
        let (facts, bank, pool) = (BTreeMap::new(), OnceLock::new(), Pool::new(device.concurrency() + 1));
        Ok(Self { device: device.clone(), state, network, facts, bank, file: None, thresholds: None, pool })
    }

    /// Loads a model from a run folder, a checkpoint folder, a published checkpoint of PyTorch or a safetensors file, which
    /// is mapped: it may be replaced or deleted while the model lives, but not written into.
    ///
    /// # Errors
    /// [`Error::Data`] if there is none; [`Error::Format`] if it is corrupt or holds values that are not finite.
    pub fn load(device: &Device, path: &Path) -> Result<Self> {
        Self::from_view(device, View::open(path)?)
    }

    /// Loads a model from the content of its safetensors file.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_bytes(device: &Device, bytes: Vec<u8>) -> Result<Self> {
        Self::from_view(device, View::of_bytes(bytes, "the model in memory".as_ref())?)
    }

    pub(crate) fn from_view(device: &Device, view: View) -> Result<Self> {
        let words = view.words();
        let config = architecture(&words)?;
        // Before memory is taken for a network, its tensors must be there.
        listing::tensors(&config, |name, shape| view.expect(&name, shape))?;
        let read = |name: &str, spec: &Spec| read_tensor(&view.container(&[name])?, name, spec);
        let mut model = Self::new(device, &config, read)?;
        let mut thresholds = view.container(&[thresholds::TENSOR])?;
        thresholds.meta = words.meta;
        model.thresholds = Thresholds::read(&thresholds)?;
        model.facts = thresholds.meta;
        model.file = Some(view).filter(|v| v.has(BANK[0]));
        Ok(model)
    }

    /// Writes the model to a safetensors file, replacing one that is there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(self.to_container()?.write(path)?)
    }

    /// A model from its file's content.
    ///
    /// # Errors
    /// If a tensor is missing, has another shape, or holds values that are not finite.
    pub fn from_container(device: &Device, c: &Container) -> Result<Self> {
        let config = architecture(c)?;
        c.check_finite()?;
        // Before memory is taken for a network, its tensors must be there.
        listing::tensors(&config, |name, shape| Ok(c.f32(&name, shape).map(|_| ())?))?;
        let mut model = Self::new(device, &config, |name, spec| read_tensor(c, name, spec))?;
        model.facts = c.meta.clone();
        model.bank = OnceLock::from(read_bank(c, &model.network)?);
        model.thresholds = Thresholds::read(c)?;
        Ok(model)
    }

    /// The content of the model's file: architecture, preprocessing, weights, statistics, bank and facts.
    ///
    /// # Errors
    /// None while the state is the model's own.
    pub fn to_container(&self) -> Result<Container> {
        let mut tensors = Vec::new();
        for (name, slot) in self.network.tensors() {
            tensors.push(write_tensor(&name, &slot.spec, &get(&self.state, slot)?)?);
        }
        if let Some(b) = self.bank()? {
            let [h, w, c] = self.network.config.image_size;
            let [classes, means, draws] = BANK;
            tensors.push(Tensor::images(means, [b.means.len() / (h * w * c), h, w, c], &b.means)?);
            tensors.push(Tensor::images(draws, [b.classes.len(), h, w, c], &b.draws)?);
            tensors.push(Tensor::i32(classes, [b.classes.len()], b.classes.clone()));
        }
        let mut container = Container::new(tensors);
        container.meta = self.facts.clone();
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

    /// The configuration of the model's training, if the model knows it; one that was converted does not.
    ///
    /// # Errors
    /// [`Error::Format`] when it is unreadable.
    pub fn config(&self) -> Result<Option<Config>> {
        let Some(text) = self.facts.get("config") else { return Ok(None) };
        let read = Config::from_sources("jempp", Some((text, "the configuration in the model")), &[]);
        read.map(Some).map_err(|e| Error::Format(e.to_string()))
    }

    /// Replaces mean and variance of each batch norm, in the order of the network's.
    ///
    /// # Errors
    /// If they are not as many or not as long as the network's.
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

    /// Gives the model draws for chains to start from.
    pub fn set_bank(&mut self, bank: Bank) {
        self.bank = OnceLock::from(Some(bank));
    }

    /// The draws that chains may start from, read from the model's file at the first call.
    ///
    /// # Errors
    /// [`Error::Format`] if they are corrupt.
    pub fn bank(&self) -> Result<Option<&Bank>> {
        if let Some(bank) = self.bank.get() {
            return Ok(bank.as_ref());
        }
        let read = |view: &View| read_bank(&view.container(&BANK)?, &self.network);
        let bank = self.file.as_ref().map_or(Ok(None), read)?;
        Ok(self.bank.get_or_init(|| bank).as_ref())
    }

    /// Gives the model thresholds to decide by.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = Some(thresholds);
    }

    /// What the model decides by, if it carries it.
    pub fn thresholds(&self) -> Option<&Thresholds> {
        self.thresholds.as_ref()
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The tensors.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Checksum (CRC-32C) of weights and statistics in memory, to tell models apart.
    ///
    /// # Errors
    /// None while the state is the model's own.
    pub fn crc32c(&self) -> Result<u32> {
        self.network.tensors().try_fold(0, |crc, (_, slot)| {
            let values = get(&self.state, slot)?;
            Ok(values.iter().fold(crc, |crc, v| crc32c::crc32c_append(crc, &v.to_le_bytes())))
        })
    }

    /// Logits and log densities of images N×H×W×C in [−1, 1].
    ///
    /// ```
    /// use jempp::{Config, Device, Trainer};
    ///
    /// # fn main() -> jempp::Result<()> {
    /// # let changes = ["train.schedule=constant", "sampler.init=uniform"].map(String::from);
    /// # let config = Config::from_sources("digits", None, &changes)?;
    /// # let model = Trainer::new(&config, &Device::cpu(0))?.model()?;
    /// let images = vec![0.1; 3 * 8 * 8]; // of a model for 8×8×1 images and 10 classes
    /// let scores = model.scores(&images)?;
    /// assert_eq!((scores.logits.len(), scores.log_density.len()), (3 * 10, 3));
    ///
    /// // Without an energy head, log p(x) + const is the logsumexp of the logits.
    /// let sum: f32 = scores.logits[..10].iter().map(|l| l.exp()).sum();
    /// assert!((sum.ln() - scores.log_density[0]).abs() < 1e-4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Data`] if the length is no multiple of an image's, or a value is not finite.
    pub fn scores(&self, images: &[f32]) -> Result<Scores> {
        let n = self.check(images)?;
        let classes = self.network.config.classes;
        let mut out = Scores { logits: Vec::with_capacity(n * classes), log_density: Vec::with_capacity(n) };
        self.chunks(n, Want::Scores, &mut |p, range| {
            let px = self.network.pixels();
            p.plan.run_shared(&self.state, &[(p.x, Host::F32(&images[range.start * px..range.end * px]))])?;
            out.logits.extend(p.plan.fetch::<f32>(p.outputs[0])?);
            out.log_density.extend(p.plan.fetch::<f32>(p.outputs[1])?);
            Ok(())
        })?;
        Ok(out)
    }

    /// Logits, n×classes.
    ///
    /// # Errors
    /// As [`Model::scores`].
    pub fn logits(&self, images: &[f32]) -> Result<Vec<f32>> {
        Ok(self.scores(images)?.logits)
    }

    /// Unnormalised log p(x), n values.
    ///
    /// # Errors
    /// As [`Model::scores`].
    pub fn log_density(&self, images: &[f32]) -> Result<Vec<f32>> {
        Ok(self.scores(images)?.log_density)
    }

    /// ∂log p(x)/∂x, or with labels ∂log p(x, y)/∂x; shaped like the images.
    ///
    /// ```
    /// use jempp::{Config, Device, Trainer};
    ///
    /// # fn main() -> jempp::Result<()> {
    /// // An untrained network is enough to show it.
    /// let changes = ["train.schedule=constant", "sampler.init=uniform"].map(String::from);
    /// let config = Config::from_sources("digits", None, &changes)?;
    /// let model = Trainer::new(&config, &Device::cpu(0))?.model()?;
    ///
    /// let mut image = vec![0.1; 8 * 8];
    /// let before = model.log_density(&image)?[0];
    /// let gradient = model.input_grad(&image, None)?;
    /// image.iter_mut().zip(&gradient).for_each(|(x, g)| *x += 0.01 * g);
    /// assert!(model.log_density(&image)?[0] > before); // a small step uphill
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Model::scores`], or if labels do not fit.
    pub fn input_grad(&self, images: &[f32], labels: Option<&[i32]>) -> Result<Vec<f32>> {
        let n = self.check(images)?;
        if let Some(l) = labels {
            let classes = self.network.config.classes as i32;
            if l.len() != n || l.iter().any(|l| !(0..classes).contains(l)) {
                return Err(Error::Data(format!("needs {n} labels below {classes}")));
            }
        }
        let mut out = Vec::with_capacity(images.len());
        let want = if labels.is_some() { Want::GradLabel } else { Want::GradDensity };
        self.chunks(n, want, &mut |p, range| {
            let px = self.network.pixels();
            let mut inputs = vec![(p.x, Host::F32(&images[range.start * px..range.end * px]))];
            if let (Some(v), Some(l)) = (p.labels, labels) {
                inputs.push((v, Host::I32(&l[range])));
            }
            p.plan.run_shared(&self.state, &inputs)?;
            out.extend(p.plan.fetch::<f32>(p.outputs[0])?);
            Ok(())
        })?;
        Ok(out)
    }

    fn check(&self, images: &[f32]) -> Result<usize> {
        let px = self.network.pixels();
        let size = self.network.config.image_size;
        if !images.len().is_multiple_of(px) {
            let got = images.len();
            return Err(Error::Data(format!("{got} values are no whole number of images of {size:?}")));
        }
        match images.iter().position(|v| !v.is_finite()) {
            Some(i) => Err(Error::Data(format!("image {} holds {} at value {}", i / px, images[i], i % px))),
            None => Ok(images.len() / px),
        }
    }

    /// Runs `f` on the program of each chunk of `n` images.
    fn chunks(
        &self,
        n: usize,
        want: Want,
        f: &mut dyn FnMut(&mut Program, core::ops::Range<usize>) -> Result<()>,
    ) -> Result<()> {
        let mut loan = self.pool.borrow();
        let gone = || Error::Internal("programs were given back too soon".into());
        let programs = loan.programs().ok_or_else(gone)?;
        let mut at = 0;
        while at < n {
            let size = CHUNKS.into_iter().find(|c| *c <= n - at).unwrap_or(1);
            let program = match programs.entry((size, want)) {
                std::collections::btree_map::Entry::Occupied(e) => e.into_mut(),
                std::collections::btree_map::Entry::Vacant(e) => e.insert(self.record(size, want)?),
            };
            f(program, at..at + size)?;
            at += size;
        }
        Ok(())
    }

    fn record(&self, n: usize, want: Want) -> Result<Program> {
        if matches!(want, Want::GradLoss | Want::GradCotangent) {
            return self.record_loss(n, want);
        }
        let mut tape = Tape::new();
        let x = tape.input("images", self.network.images(n));
        let f = self.network.forward(&mut tape, x, &BnMode::Running)?;
        let labels = (want == Want::GradLabel).then(|| tape.input("labels", Spec::i32(&[n])));
        let objective = labels.map_or(Objective::LogDensity, Objective::Label).record(&mut tape, f.heads)?;
        let outputs = if want == Want::Scores {
            vec![f.heads.logits, objective]
        } else {
            let total = tape.one(SumAll { factor: 1.0 }, &[objective])?;
            let gradient = grad(&mut tape, total, &[x])?[0];
            vec![gradient, f.heads.logits, objective]
        };
        Ok(Program { plan: tape.plan(&self.device, &outputs)?, x, labels, outputs })
    }
}

/// The architecture that a model's file says it has.
///
/// # Errors
/// [`Error::Format`] when it is another format or says nothing that can be.
pub(crate) fn architecture(c: &Container) -> Result<ModelConfig> {
    let format = c.text("format")?;
    if format != FORMAT {
        return Err(c.wrong(format!("its format is `{format}`, this program reads `{FORMAT}`")).into());
    }
    let config = ModelConfig::from_json(c.text("architecture")?)
        .map_err(|e| c.wrong(format!("the architecture is unreadable: {e}")))?;
    listing::check(&config).map_err(|e| c.wrong(format!("the architecture cannot be: {e}")))?;
    Ok(config)
}

/// A tensor of the file in the memory layout.
pub(crate) fn read_tensor(c: &Container, name: &str, spec: &Spec) -> Result<Vec<f32>> {
    match *spec.shape() {
        [k, r, s, ch] => Ok(c.filters(name, [k, r, s, ch])?),
        _ => Ok(c.f32(name, spec.shape())?.to_vec()),
    }
}

/// A tensor of the memory layout for the file.
pub(crate) fn write_tensor(name: &str, spec: &Spec, values: &[f32]) -> Result<Tensor> {
    match *spec.shape() {
        [k, r, s, c] => Ok(Tensor::filters(name, [k, r, s, c], values)?),
        _ => Ok(Tensor::f32(name, spec.shape(), values.to_vec())),
    }
}

fn read_bank(c: &Container, network: &Network) -> Result<Option<Bank>> {
    let [classes, means, draws] = BANK;
    let Some(stored) = c.get(classes) else { return Ok(None) };
    let (n, [h, w, ch]) = (stored.data.len(), network.config.image_size);
    let known = c.tensor(means)?.shape.first().copied().unwrap_or(0);
    let bank = Bank {
        means: c.images(means, [known, h, w, ch])?,
        draws: c.images(draws, [n, h, w, ch])?,
        classes: c.i32(classes, &[n])?.to_vec(),
    };
    let known = network.config.classes as i32;
    if bank.classes.iter().any(|c| !(0..known).contains(c)) {
        return Err(c.wrong(format!("tensor `{classes}` names a class that the model lacks")).into());
    }
    Ok(Some(bank))
}
