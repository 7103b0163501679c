//! The `data` section of the configuration.

use serde::{Deserialize, Serialize};

/// The data and its augmentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Name of a built-in data set (`digits`), or the path of one in any of the forms that are read.
    pub dataset: String,
    /// Standard deviation of the noise on training images, in units of [−1, 1].
    pub sigma: f64,
    /// Labelled images a class; 0 means all.
    pub labels_per_class: usize,
    /// Pixels of reflected border around a training image before the random crop.
    pub pad: usize,
    /// Whether training images are mirrored at random.
    pub flip: bool,
    /// Whether all this is done to the images for p(x) too, or only to the labelled ones.
    pub p_x_augment: bool,
    /// Training images held back for validation.
    pub valid_size: usize,
    /// Which labels of CIFAR-100. This and what follows may be missing in the files of older versions.
    #[serde(default)]
    pub labels: LabelKind,
    /// Whether SVHN's extra images are trained on too.
    #[serde(default)]
    pub extra: bool,
    /// How CelebA's images become small.
    #[serde(default)]
    pub crop: Crop,
    /// The attribute of CelebA that is the label; empty for none.
    #[serde(default)]
    pub attribute: String,
}

/// The labels of CIFAR-100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelKind {
    /// 100 classes.
    #[default]
    Fine,
    /// 20 groups of them.
    Coarse,
}

/// How CelebA's photographs of 218×178 become small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crop {
    /// The middle square, scaled to 32×32.
    #[default]
    Square,
    /// The whole, scaled to 39×32 (height × width), as in JEM's comparisons.
    Compat39,
}

impl Default for DataConfig {
    /// The built-in digits with the published augmentation for CIFAR-10.
    fn default() -> Self {
        Self {
            dataset: "digits".to_string(),
            sigma: 0.03,
            labels_per_class: 0,
            pad: 4,
            flip: true,
            p_x_augment: true,
            valid_size: 5000,
            labels: LabelKind::Fine,
            extra: false,
            crop: Crop::Square,
            attribute: String::new(),
        }
    }
}

impl DataConfig {
    /// Whether the data set is a path, not one that is built in.
    pub fn is_path(&self) -> bool {
        self.dataset != "digits"
    }
}
