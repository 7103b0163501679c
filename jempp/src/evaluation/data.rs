//! The data that a trained model is evaluated on.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::Model;
use jempp_data::{ClassMatch, Dataset, Loaded, Reading, Split, load_with};
use std::path::Path;

/// One of the three parts that a data set is split into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitPart {
    /// Test images.
    Test,
    /// Validation images: held out from training.
    Valid,
    /// Training images.
    Train,
}

impl SplitPart {
    /// Its name, as in result files: `test`, `valid` or `train`.
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

/// A data set to evaluate a trained model on, and the settings of the evaluation that belong to it.
#[derive(Clone, Debug)]
pub struct EvalData {
    /// The data set.
    pub set: Dataset,
    /// Its training, validation and test images.
    pub split: Split,
    /// Number of bins of the calibration error.
    pub bins: usize,
    /// Seed of everything random in the evaluation.
    pub seed: u64,
    /// A reason to doubt the results, if there is one: the data set has changed since training.
    pub warning: Option<String>,
}

impl EvalData {
    /// Loads the data set `dataset`, by default the one that the model was trained on. Bins and seed are those of the model's
    /// configuration, unless `seed` is given.
    ///
    /// # Errors
    /// [`Error::Data`] if no data set is named and the model does not say what it was trained on, or if the images do not fit
    /// the model; those of [`jempp_data::load`].
    pub fn for_model(model: &Model, dataset: Option<&str>, seed: Option<u64>) -> Result<Self> {
        let (mut data, _) = Self::load(model, dataset, seed)?;
        let (set, m) = (&data.set, &model.network().config);
        if set.size() != m.image_size {
            let (name, size) = (set.name(), set.size());
            return Err(Error::Data(format!(
                "data set `{name}` has images of {size:?} (height, width, channels), the model takes {:?}",
                m.image_size
            )));
        }
        // Images without labels serve what needs none; labels of them are refused.
        if set.is_labelled() {
            let classes = ClassMatch::new(set, m.classes, &model.class_names())?;
            data.set = classes.apply(data.set);
        }
        Ok(data)
    }

    /// Loads the training images of a data set, whatever their classes: the images have the size that the model takes.
    ///
    /// # Errors
    /// Those of [`EvalData::for_model`], but for those of classes.
    pub fn images_for(model: &Model, dataset: &str) -> Result<Self> {
        let (data, _) = Self::load(model, Some(dataset), None)?;
        let (got, want) = (data.set.size(), model.network().config.image_size);
        if got != want {
            let name = data.set.name();
            return Err(Error::Data(format!(
                "data set `{name}` has images of {got:?} (height, width, channels), the model takes {want:?}"
            )));
        }
        Ok(data)
    }

    /// Loads the test images of another data set as outliers, whatever their classes: all images, if it has no parts. Images of
    /// another size are scaled to the model's ([`Dataset::fitted`]). Returns the last part of the data set's name, which says if images were scaled, with
    /// the data.
    ///
    /// # Errors
    /// [`Error::Data`] if there are no test images, or they have other than 1 or 3 channels; those of [`jempp_data::load`].
    pub fn outliers(model: &Model, dataset: &str, seed: Option<u64>) -> Result<(String, Self)> {
        let (mut data, has_parts) = Self::load(model, Some(dataset), seed)?;
        if !has_parts {
            data.split =
                Split { train: Vec::new(), valid: Vec::new(), test: (0..data.set.len() as u32).collect() };
        }
        let known = model.class_names();
        if !known.is_empty() && data.set.class_names().iter().filter(|n| known.contains(n)).count() > 1 {
            tracing::warn!("{dataset} has classes of the model: its images are hardly outliers");
        }
        let (from, to) = (data.set.size(), model.network().config.image_size);
        let name = Path::new(data.set.name()).file_name();
        let name = name.map_or(data.set.name().into(), |n| n.to_string_lossy()).into_owned();
        if from == to {
            return Ok((name, data));
        }
        data.set = data.set.fitted(data.part(SplitPart::Test)?, to)?;
        let test = (0..data.set.len() as u32).collect();
        data.split = Split { train: Vec::new(), valid: Vec::new(), test };
        Ok((format!("{name}, scaled from {}×{}×{}", from[0], from[1], from[2]), data))
    }

    /// The data set, and whether it has parts of its own.
    fn load(model: &Model, dataset: Option<&str>, seed: Option<u64>) -> Result<(Self, bool)> {
        let known = model.config()?;
        if known.is_none() && dataset.is_none() {
            return Err(Error::Data("the model does not say what it was trained on; name a data set".into()));
        }
        let unknown = known.is_none();
        let mut config = known.map_or_else(|| Config::preset("jempp"), Ok)?;
        let named = dataset.is_some_and(|d| d != config.data.dataset);
        if let Some(name) = dataset {
            name.clone_into(&mut config.data.dataset);
            if named {
                config.data.base = String::new();
            }
        }
        let loaded = match load_with(&config.data, Reading::on(model.device())) {
            // Nothing is known to have been held out, and a small data set may have fewer images than `data.valid_size`.
            Err(jempp_formats::Error::Config(_)) if unknown || named => {
                config.data.valid_size = 0;
                load_with(&config.data, Reading::on(model.device()))
            }
            loaded => loaded,
        };
        let Loaded { set, split, has_parts, warnings, .. } = loaded?;
        // How a data set that nothing is trained on is divided is no matter of its test images.
        warnings.iter().for_each(|w| tracing::info!("{w}"));
        let crc = format!("{:08x}", set.crc32c());
        let other = model.metadata.get("dataset_crc32c").is_some_and(|c| *c != crc);
        let warning = (other && !named).then(|| {
            format!(
                "data set `{}` is no longer the one that the model was trained on: its checksum differs",
                set.name()
            )
        });
        let seed = seed.unwrap_or(config.seed);
        Ok((Self { set, split, bins: config.eval.ece_bins, seed, warning }, has_parts))
    }

    /// Indices of the images of a part, in the order of the split.
    ///
    /// # Errors
    /// [`Error::Data`] if the part is empty.
    pub fn part(&self, part: SplitPart) -> Result<&[u32]> {
        let indices = part.of(&self.split);
        if indices.is_empty() {
            let (name, part) = (self.set.name(), part.name());
            return Err(Error::Data(format!(
                "data set `{name}` has no {part} images as it was split in training"
            )));
        }
        Ok(indices)
    }

    /// The labels of the images `indices`.
    ///
    /// # Errors
    /// [`Error::Data`] if an index is out of range.
    pub fn labels(&self, indices: &[u32]) -> Result<Vec<u16>> {
        let mut labels = vec![0; indices.len()];
        self.set.labels_of(indices, &mut labels)?;
        Ok(labels)
    }
}
