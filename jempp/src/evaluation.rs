//! Judging a model: accuracy, calibration, and log p(x) as a detector of what is no data.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::metrics::{Predictions, auroc};
use crate::model::{Model, Scores};
use jempp_data::synthetic::{Images, Kind};
use jempp_data::{Dataset, Reading, Split, plain_batch};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Images in memory at a time, as float32.
const PORTION: usize = 512;

/// How well classes are told apart, and how honestly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classification {
    /// Images judged.
    pub n: usize,
    /// Share classified right.
    pub accuracy: f64,
    /// Expected calibration error over `ece_bins` bins.
    pub ece: f64,
    /// Bins of the calibration error.
    pub ece_bins: usize,
    /// Mean −log p(label).
    pub nll: f64,
    /// Brier score.
    pub brier: f64,
}

/// How well a score tells data from a synthetic set of as many images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// What the data is told apart from.
    pub against: String,
    /// AUROC of log p(x).
    pub auroc_log_density: f64,
    /// AUROC of max p(y|x).
    pub auroc_max_probability: f64,
}

/// A judgement of a model on a set of images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Accuracy and calibration.
    pub classification: Classification,
    /// Detection of per-image pixel shuffles and of uniform noise, in this order.
    pub detection: Vec<Detection>,
}

/// The images `indices` of `set`, N×H×W×C in [−1, 1].
///
/// # Errors
/// If an index is out of range.
pub fn images(set: &Dataset, indices: &[u32]) -> Result<Vec<f32>> {
    let mut out = vec![0.0; indices.len() * set.pixels()];
    plain_batch(set, indices, &mut out)?;
    Ok(out)
}

/// Accuracy and calibration from scores and labels.
///
/// # Errors
/// If the counts differ or a score is not finite.
pub fn classify(scores: &Scores, classes: usize, labels: &[u16], bins: usize) -> Result<Classification> {
    let p = Predictions::new(&scores.logits, classes, labels)?;
    Ok(Classification {
        n: labels.len(),
        accuracy: p.accuracy(),
        ece: p.ece(bins)?,
        ece_bins: bins,
        nll: p.nll(),
        brier: p.brier(),
    })
}

/// Judges a model on the images `indices` of `set`.
///
/// # Errors
/// If the images do not fit the model.
pub fn judge(model: &Model, set: &Dataset, indices: &[u32], bins: usize, seed: u64) -> Result<Judgement> {
    let mut labels = vec![0; indices.len()];
    set.labels_of(indices, &mut labels)?;
    let scores = score_images(model, &Images::new(set, indices, Kind::Plain, seed, 0.0)?)?;
    let classes = model.network().config.classes;
    let classification = classify(&scores, classes, &labels, bins)?;
    let mut detection = Vec::new();
    for kind in [Kind::Shuffled, Kind::Uniform] {
        let other = score_images(model, &Images::new(set, indices, kind, seed, 0.0)?)?;
        let wide = |s: &Scores| s.log_density.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        detection.push(Detection {
            against: kind.name().to_owned(),
            auroc_log_density: auroc(&wide(&scores), &wide(&other))?,
            auroc_max_probability: auroc(&confidence(&scores, classes)?, &confidence(&other, classes)?)?,
        });
    }
    Ok(Judgement { classification, detection })
}

/// The scores of all images, [`PORTION`] at a time.
fn score_images(model: &Model, images: &Images<'_>) -> Result<Scores> {
    let mut all = Scores::default();
    for start in (0..images.len()).step_by(PORTION) {
        let part = model.scores(&images.load(start..(start + PORTION).min(images.len()))?)?;
        all.logits.extend(part.logits);
        all.log_density.extend(part.log_density);
    }
    Ok(all)
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Images for the final judgement.
    Test,
    /// Images held back from training.
    Valid,
    /// Images trained on.
    Train,
}

impl Part {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Valid => "valid",
            Self::Train => "train",
        }
    }

    fn of(self, split: &Split) -> &[u32] {
        match self {
            Self::Test => &split.test,
            Self::Valid => &split.valid,
            Self::Train => &split.train,
        }
    }
}

/// What a trained model is to be judged on.
#[derive(Clone, Debug)]
pub struct Task {
    /// The data set.
    pub set: Dataset,
    /// The images in it.
    pub indices: Vec<u32>,
    /// Bins of the calibration error.
    pub bins: usize,
    /// Seed of the synthetic sets.
    pub seed: u64,
    /// What may make the judgement worth less.
    pub warning: Option<String>,
}

/// The data that a trained model is judged on.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The data set.
    pub set: Dataset,
    /// What its images are for.
    pub split: Split,
    /// Bins of the calibration error.
    pub bins: usize,
    /// Seed of the synthetic sets.
    pub seed: u64,
    /// What may make a judgement worth less.
    pub warning: Option<String>,
}

impl Subject {
    /// The data set `dataset`, by default the one that the model was trained on; bins and seed are those of its
    /// training, unless `seed` is given.
    ///
    /// # Errors
    /// [`Error::Data`] when the model does not know its data set and none is named, or the images do not fit the model;
    /// those of [`jempp_data::load`].
    pub fn of_model(model: &Model, dataset: Option<&str>, seed: Option<u64>) -> Result<Self> {
        let subject = Self::load(model, dataset, seed)?;
        let (set, m) = (&subject.set, &model.network().config);
        if set.size() != m.image_size || set.classes() > m.classes {
            let (name, size, classes) = (set.name(), set.size(), set.classes());
            return Err(Error::Data(format!(
                "data set `{name}` has images of {size:?} and {classes} classes, the model takes {:?} and {}",
                m.image_size, m.classes
            )));
        }
        Ok(subject)
    }

    /// The test images of another data set, whatever its classes, as images that the model does not know: scaled to the
    /// model's size ([`Dataset::fitted`]) if they have another. With its name, which says so.
    ///
    /// # Errors
    /// [`Error::Data`] when there are no test images, or of other channels than 1 and 3; those of [`jempp_data::load`].
    pub fn outside(model: &Model, dataset: &str, seed: Option<u64>) -> Result<(String, Self)> {
        let mut subject = Self::load(model, Some(dataset), seed)?;
        let (from, to) = (subject.set.size(), model.network().config.image_size);
        let name = Path::new(subject.set.name()).file_name();
        let name = name.map_or(subject.set.name().into(), |n| n.to_string_lossy()).into_owned();
        if from == to {
            return Ok((name, subject));
        }
        subject.set = subject.set.fitted(subject.part(Part::Test)?, to)?;
        let test = (0..subject.set.len() as u32).collect();
        subject.split = Split { train: Vec::new(), valid: Vec::new(), test };
        Ok((format!("{name}, scaled from {}×{}×{}", from[0], from[1], from[2]), subject))
    }

    fn load(model: &Model, dataset: Option<&str>, seed: Option<u64>) -> Result<Self> {
        let known = model.config()?;
        if known.is_none() && dataset.is_none() {
            return Err(Error::Data("the model does not say what it was trained on; name a data set".into()));
        }
        let unknown = known.is_none();
        let mut config = known.map_or_else(|| Config::preset("jempp"), Ok)?;
        let named = dataset.is_some_and(|d| d != config.data.dataset);
        if let Some(name) = dataset {
            name.clone_into(&mut config.data.dataset);
        }
        let loaded = match jempp_data::load(&config.data, Reading::on(model.device())) {
            // Nothing is known to have been held back, and small data sets cannot spare as many as is configured.
            Err(jempp_formats::Error::Config(_)) if unknown || named => {
                config.data.valid_size = 0;
                jempp_data::load(&config.data, Reading::on(model.device()))
            }
            loaded => loaded,
        };
        let (set, split) = loaded?;
        let crc = format!("{:08x}", set.crc32c());
        let other = model.facts.get("dataset_crc32c").is_some_and(|c| *c != crc);
        let warning = (other && !named).then(|| {
            format!(
                "data set `{}` is no longer the one that the model was trained on: its checksum differs",
                set.name()
            )
        });
        let seed = seed.unwrap_or(config.seed);
        Ok(Self { set, split, bins: config.eval.ece_bins, seed, warning })
    }

    /// The images of a part, in split order.
    ///
    /// # Errors
    /// [`Error::Data`] when there are none.
    pub fn part(&self, part: Part) -> Result<&[u32]> {
        let indices = part.of(&self.split);
        if indices.is_empty() {
            let (name, part) = (self.set.name(), part.name());
            return Err(Error::Data(format!(
                "data set `{name}` has no {part} images as it was split in training"
            )));
        }
        Ok(indices)
    }

    /// The labels of images.
    ///
    /// # Errors
    /// [`Error::Data`] when an index is out of range.
    pub fn labels(&self, indices: &[u32]) -> Result<Vec<u16>> {
        let mut labels = vec![0; indices.len()];
        self.set.labels_of(indices, &mut labels)?;
        Ok(labels)
    }
}

impl Task {
    /// A part of the data set `dataset`; see [`Subject::of_model`].
    ///
    /// # Errors
    /// Those of [`Subject::of_model`] and [`Subject::part`].
    pub fn of_model(model: &Model, dataset: Option<&str>, part: Part, seed: Option<u64>) -> Result<Self> {
        let subject = Subject::of_model(model, dataset, seed)?;
        let indices = subject.part(part)?.to_vec();
        let Subject { set, bins, seed, warning, .. } = subject;
        Ok(Self { set, indices, bins, seed, warning })
    }

    /// Judges the model, see [`judge`].
    ///
    /// # Errors
    /// Those of [`judge`].
    pub fn judge(&self, model: &Model) -> Result<Judgement> {
        judge(model, &self.set, &self.indices, self.bins, self.seed)
    }
}

/// max p(y|x) of each image.
///
/// # Errors
/// If a score is not finite.
pub fn confidence(scores: &Scores, classes: usize) -> Result<Vec<f64>> {
    let labels = vec![0; scores.log_density.len()];
    Ok(Predictions::new(&scores.logits, classes, &labels)?.confidences())
}
