//! What chains restart from in a trainer without a data set: images and class means, from the host program or from the start
//! samples of a model.
//!
//! Invariant: a checkpoint holds them, so that a resumed trainer restarts its chains as the saved one would.

use super::{Guard, Options, TrainStep, Trainer};
use crate::config::{Init, ModelConfig};
use crate::error::{Error, Result};
use crate::model::StartSamples;
use jempp_data::Dataset;
use jempp_formats::container::{Container, Tensor};

/// Most images that are kept: a checkpoint holds them. The class means are those of all images.
const MOST: usize = 5000;
/// Names of the tensors in a checkpoint: images N×H×W×C as bytes, labels, class means.
const NAMES: [&str; 3] = ["init.images", "init.labels", "init.means"];

/// Images that restarts are drawn from, and the means of their classes, classes×H·W·C in [−1, 1].
#[derive(Clone, Debug)]
pub(super) struct InitImages {
    set: Dataset,
    means: Vec<f32>,
}

impl InitImages {
    /// From the images of a host program, n×H×W×C in [−1, 1], with their labels. At most [`MOST`] of them are kept, equally
    /// many of each class if there are enough.
    ///
    /// # Errors
    /// [`Error::Data`] for a wrong length, a value outside [−1, 1], a label out of range, or a class without an image.
    pub(super) fn new(model: &ModelConfig, images: &[f32], labels: &[i32]) -> Result<Self> {
        let (pixels, classes) = (model.image_size.iter().product::<usize>(), model.classes);
        let (n, got) = (labels.len(), images.len());
        if n.checked_mul(pixels) != Some(got) {
            return Err(Error::Data(format!("{got} values for {n} images of {pixels}")));
        }
        if let Some(i) = images.iter().position(|v| !(-1.0..=1.0).contains(v)) {
            return Err(Error::Data(format!("{} in image {} is not within [-1, 1]", images[i], i / pixels)));
        }
        let mut counts = vec![0usize; classes];
        for label in labels {
            let count = usize::try_from(*label).ok().and_then(|l| counts.get_mut(l));
            *count.ok_or_else(|| {
                Error::Data(format!("label {label} is not below model.classes = {classes}"))
            })? += 1;
        }
        if let Some(class) = counts.iter().position(|n| *n == 0) {
            return Err(Error::Data(format!(
                "there is no image of class {class}: chains restart in every class"
            )));
        }
        let means = means(images, labels, &counts, pixels);
        let each = (MOST / classes).max(1);
        let (mut kept, mut bytes, mut of) = (vec![0usize; classes], Vec::new(), Vec::new());
        for (image, label) in images.chunks_exact(pixels).zip(labels) {
            let kept = &mut kept[*label as usize];
            *kept += 1;
            if *kept <= each {
                bytes.extend(image.iter().map(|v| byte(*v)));
                of.push(*label as u16);
            }
        }
        let set = Dataset::new("images of the host program", model.image_size, classes, bytes, of)?;
        Ok(Self { set, means })
    }

    /// From the samples that a model carries; `None` if these are not of the trainer's images and classes.
    ///
    /// # Errors
    /// [`Error::Data`] if the samples are not images in [−1, 1] of every class.
    pub(super) fn of_samples(model: &ModelConfig, samples: &StartSamples) -> Result<Option<Self>> {
        let pixels: usize = model.image_size.iter().product();
        let fits = samples.means.len() == model.classes * pixels
            && samples.draws.len() == samples.classes.len() * pixels;
        if !fits {
            return Ok(None);
        }
        let images = Self::new(model, &samples.draws, &samples.classes)?;
        Ok(Some(Self { means: samples.means.clone(), ..images }))
    }

    /// The images as a data set of which all are training images, with their indices.
    pub(super) fn data(&self) -> (&Dataset, Vec<u32>) {
        (&self.set, (0..self.set.len() as u32).collect())
    }

    /// Gives `step`, which was made with [`InitImages::data`], the class means, and fills its buffer with draws of them.
    ///
    /// # Errors
    /// If there is no memory.
    pub(super) fn apply(&self, step: &mut TrainStep) -> Result<()> {
        let images = step.training_images();
        let images = images.ok_or_else(|| Error::Internal("a step without training images".into()))?;
        step.state_mut().set(images.means(), &self.means)?;
        step.refill_buffer()
    }

    /// The tensors for a checkpoint.
    pub(super) fn to_tensors(&self) -> [Tensor; 3] {
        let ([h, w, c], n) = (self.set.size(), self.set.len());
        let labels = self.set.labels().iter().map(|l| i32::from(*l)).collect();
        let pixels = self.set.pixels();
        [
            Tensor::u8(NAMES[0], [n, h, w, c], self.set.images().to_vec()),
            Tensor::i32(NAMES[1], [n], labels),
            Tensor::f32(NAMES[2], [self.means.len() / pixels, pixels], self.means.clone()),
        ]
    }

    /// Reads them from a checkpoint; `None` if it has none.
    ///
    /// # Errors
    /// [`Error::Format`] if they do not fit together.
    pub(super) fn read(model: &ModelConfig, c: &Container) -> Result<Option<Self>> {
        let Some(labels) = c.get(NAMES[1]) else { return Ok(None) };
        let (n, [h, w, ch]) = (labels.data.len(), model.image_size);
        let wrong = |e: &dyn std::fmt::Display| Error::from(c.wrong(format!("`{}`: {e}", NAMES[0])));
        let labels = c.i32(NAMES[1], &[n])?.iter().map(|l| u16::try_from(*l));
        let labels = labels.collect::<Result<Vec<u16>, _>>().map_err(|e| wrong(&e))?;
        let bytes = c.u8(NAMES[0], &[n, h, w, ch])?.to_vec();
        let set = Dataset::new("images of the host program", model.image_size, model.classes, bytes, labels);
        let means = c.f32(NAMES[2], &[model.classes, h * w * ch])?.to_vec();
        Ok(Some(Self { set: set.map_err(|e| wrong(&e))?, means }))
    }
}

impl Trainer {
    /// Starts from the model that `train.from` names, if it names one.
    pub(super) fn started(mut self) -> Result<Self> {
        let from = self.config().train.from.clone();
        if !from.is_empty() {
            let (warm, source) = self.step.start_from_path(&from)?;
            warm.notes.iter().for_each(|note| tracing::warn!("train.from: {note}"));
            self.adopt_samples(source.start_samples()?.as_ref())?;
            self.guard = Guard::new(&self.step, None)?;
        }
        Ok(self)
    }

    /// Lets chains restart from the start samples of a model, if they have nothing to restart from yet.
    pub(super) fn adopt_samples(&mut self, samples: Option<&StartSamples>) -> Result<()> {
        let (Some(samples), true) = (samples, self.step.lacks_restarts()) else { return Ok(()) };
        match InitImages::of_samples(&self.config().model, samples)? {
            Some(init) => self.set_init(init),
            None => Ok(()),
        }
    }

    /// Remakes the step with images that its chains restart from.
    fn set_init(&mut self, init: InitImages) -> Result<()> {
        let (config, device) = (self.step.config().clone(), self.step.device().clone());
        let (set, all) = init.data();
        let mut step = TrainStep::new(&config, &device, Some((set, &all)), Options::default())?;
        step.take_over(&self.step)?;
        init.apply(&mut step)?;
        (self.step, self.init) = (step, Some(init));
        self.guard = Guard::new(&self.step, None)?;
        Ok(())
    }

    /// Gives a trainer without a data set the images that chains restart from: n×H×W×C in [−1, 1], with their labels, at
    /// least one of each class. Fills the replay buffer with draws from the normals of the classes, so that steps need no
    /// [`Batch::chain_start`](super::Batch::chain_start); from then on the trainer's models carry start samples, too. The class means are those of all
    /// images; 5,000 of the images are kept, and saved in checkpoints. Weights, optimiser and counters stay as they are.
    ///
    /// ```
    /// use jempp::{Batch, Config, Device, Trainer};
    ///
    /// # fn main() -> jempp::Result<()> {
    /// let small = ["train.batch_size=4", "train.schedule=constant", "sampler.buffer_size=20"].map(String::from);
    /// let config = Config::from_sources("digits", None, &small)?;
    /// let mut trainer = Trainer::new(&config, &Device::cpu(0))?;
    /// let labels: Vec<i32> = (0..10).collect();
    /// let images: Vec<f32> = labels.iter().flat_map(|l| [*l as f32 / 10.0; 64]).collect();
    /// trainer.set_init_images(&images, &labels)?;
    ///
    /// let (x, labels) = (&images[..4 * 64], &labels[..4]);
    /// trainer.step(&Batch { x_data: x, x_labelled: x, labels, chain_start: None })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if the trainer has a data set, `sampler.init` is `"uniform"` or no chains are trained;
    /// [`Error::Data`] for a wrong length, a value outside [−1, 1], a label out of range, or a class without an image;
    /// [`Error::OutOfMemory`].
    pub fn set_init_images(&mut self, images: &[f32], labels: &[i32]) -> Result<()> {
        let c = self.config();
        let why = if self.data.is_some() {
            "chains restart from the trainer's data set already"
        } else if c.sampler.init == Init::Uniform {
            "chains restart from noise, as sampler.init is \"uniform\"; set it to \"informative\""
        } else if c.train.p_x_weight == 0.0 && c.train.p_x_y_weight == 0.0 {
            "neither log p(x) nor log p(x, y) is trained, so there are no chains"
        } else {
            return self.set_init(InitImages::new(&self.config().model, images, labels)?);
        };
        Err(Error::Config(format!("no images are needed: {why}")))
    }
}

/// The mean image of each class.
fn means(images: &[f32], labels: &[i32], counts: &[usize], pixels: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; counts.len() * pixels];
    for (image, label) in images.chunks_exact(pixels).zip(labels) {
        let sum = &mut sums[*label as usize * pixels..][..pixels];
        sum.iter_mut().zip(image).for_each(|(s, v)| *s += f64::from(*v));
    }
    sums.iter().enumerate().map(|(i, s)| (s / counts[i / pixels] as f64) as f32).collect()
}

/// The byte nearest to a value in [−1, 1].
fn byte(v: f32) -> u8 {
    ((v + 1.0) * 127.5).round() as u8
}
