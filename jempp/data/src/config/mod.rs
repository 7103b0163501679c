//! The section `data` of the configuration: the data set and its augmentation. It is defined with the macros of
//! [`rows`], as are the other sections, which are in the crate `jempp`.

pub mod fraction;
pub mod range;
pub mod rows;

use core::ops::Bound::{Included, Unbounded};
use jempp_formats::resize::{Filter, Fit, Resize};
use rows::Range;

rows::choice! {
    /// The labels of CIFAR-100.
    #[derive(Default)]
    pub enum LabelKind {
        /// 100 classes.
        #[default]
        Fine = "fine",
        /// 20 superclasses.
        Coarse = "coarse",
    }
}

rows::choice! {
    /// How CelebA's photographs of 218×178 are cropped and scaled.
    #[derive(Default)]
    pub enum Crop {
        /// The centre square, scaled to 32×32.
        #[default]
        Square = "square",
        /// The whole image, scaled to 39×32 (height × width), as in JEM's comparisons.
        Compat39 = "compat39",
    }
}

rows::choice! {
    /// What scaling does with images of another shape.
    #[derive(Default)]
    pub enum ResizeMode {
        /// The largest central part of the wanted shape is scaled.
        #[default]
        Crop = "crop",
        /// The whole image is scaled, which changes its proportions.
        Squash = "squash",
    }
}

rows::choice! {
    /// The filter of scaling, each as PIL's.
    #[derive(Default)]
    pub enum ResizeFilter {
        /// Means of boxes.
        Box = "box",
        /// Linear interpolation.
        #[default]
        Bilinear = "bilinear",
        /// Cubic interpolation.
        Bicubic = "bicubic",
        /// A windowed sinc.
        Lanczos = "lanczos",
    }
}

rows::choice! {
    /// How labelled images are drawn.
    #[derive(Default)]
    pub enum Sampling {
        /// Each image once an epoch.
        #[default]
        Uniform = "uniform",
        /// Images of smaller classes several times an epoch, as often as those of the largest class.
        Balanced = "balanced",
    }
}

rows::section! {
    /// The data set and its augmentation.
    pub struct DataConfig, "data." {
        /// Data set: `digits`, which is built in, or the path of an image folder, CIFAR, SVHN, MNIST, CelebA, STL-10, .npz or
        /// .npy (docs/data.md).
        dataset: String = "digits".to_string(), unit "name or path";
        /// Standard deviation of the Gaussian noise added to training images.
        sigma: f64 = 0.03, in Range::NON_NEGATIVE, unit "pixel values in [-1, 1]";
        /// The same for the images for log p(x), which it may suit to have less; -1: data.sigma, or with
        /// data.p_x_augment = false none.
        p_x_sigma: f64 = -1.0, in Range::Real(Included(-1.0), Unbounded), also "-1 or at least 0",
            unit "pixel values in [-1, 1]";
        /// Number of labelled images per class; 0: all.
        labels_per_class: usize = 0, in Range::Whole(0, i32::MAX as u64), unit "images";
        /// Reflection padding on each side of a training image before the random crop.
        pad: usize = 4, in Range::Whole(0, u64::MAX), also "below the shorter side of model.image_size", unit "pixels";
        /// Flip training images horizontally at random.
        flip: bool = true;
        /// Augment the images for log p(x) too, as published; otherwise only the labelled ones.
        p_x_augment: bool = true;
        /// Number of training images held out for validation.
        valid_size: usize = 5000, in Range::Whole(0, i32::MAX as u64), unit "images";
        /// CIFAR-100: fine labels, 100 classes, or coarse ones, 20 superclasses.
        #[serde(default)]
        labels: LabelKind = LabelKind::Fine;
        /// SVHN: train on the extra images too.
        #[serde(default)]
        extra: bool = false;
        /// CelebA: the centre square as 32×32, or the whole image as 39×32.
        #[serde(default)]
        crop: Crop = Crop::Square;
        /// CelebA: the attribute that is the label, such as Smiling; empty: no labels.
        #[serde(default)]
        attribute: String = String::new(), unit "name";
        /// Folder that a relative data.dataset is in; empty, or if it is not there: the working directory. Training writes
        /// down where it found the data set.
        #[serde(default)]
        base: String = String::new(), unit "path";
        /// Height and width that images are scaled to, such as [32, 32]; empty: they must have one size.
        #[serde(default)]
        resize: Vec<usize> = Vec::new(), also "two numbers, 4 to 4096, or none", unit "pixels";
        /// What data.resize does with images of another shape: scale the largest central part, or squash all of the image.
        #[serde(default)]
        resize_mode: ResizeMode = ResizeMode::Crop;
        /// The filter of data.resize, as PIL's of the same name.
        #[serde(default)]
        resize_filter: ResizeFilter = ResizeFilter::Bilinear;
        /// Table of images and labels (CSV) of an image folder without class folders; empty: one that is found in the folder.
        #[serde(default)]
        labels_csv: String = String::new(), unit "path";
        /// How labelled images are drawn: each once an epoch, or all classes as often as the largest one.
        #[serde(default)]
        sampling: Sampling = Sampling::Uniform;
        /// What any compressed file may unpack to, however short it is; beyond that 16 times its length (images: 48 times). A
        /// bound on the memory that a hostile file can take.
        unpack_limit: usize = 64, in Range::Whole(0, 1 << 20), unit "MiB";
    }
}

impl DataConfig {
    /// Whether `dataset` is a path rather than the name of a built-in data set.
    pub fn is_path(&self) -> bool {
        self.dataset != "digits"
    }

    /// Standard deviation of the noise added to the images for log p(x).
    pub fn sigma_of_p_x(&self) -> f64 {
        match self.p_x_augment {
            _ if self.p_x_sigma >= 0.0 => self.p_x_sigma,
            true => self.sigma,
            false => 0.0,
        }
    }

    /// What images are scaled to, if they are.
    pub fn resizing(&self) -> Option<Resize> {
        let size = <[usize; 2]>::try_from(self.resize.as_slice()).ok()?;
        let fit = match self.resize_mode {
            ResizeMode::Crop => Fit::Crop,
            ResizeMode::Squash => Fit::Squash,
        };
        let filter = match self.resize_filter {
            ResizeFilter::Box => Filter::Box,
            ResizeFilter::Bilinear => Filter::Bilinear,
            ResizeFilter::Bicubic => Filter::Bicubic,
            ResizeFilter::Lanczos => Filter::Lanczos,
        };
        Some(Resize { size, fit, filter })
    }

    /// Checks the constraints that ranges cannot express.
    ///
    /// # Errors
    /// A message that names the key, its value and what it must be.
    pub fn check_relations(&self) -> Result<(), String> {
        if self.dataset.trim().is_empty() {
            return rows::refuse("data.dataset", "\"\"", "must be the name of a data set or a path");
        }
        if !matches!(self.resize[..], [] | [4..=4096, 4..=4096]) {
            let shown = format!("{:?}", self.resize);
            return rows::refuse(
                "data.resize",
                shown,
                "must be [height, width], each 4 to 4096, or [] for none",
            );
        }
        if self.p_x_sigma < 0.0 && self.p_x_sigma != Self::default().p_x_sigma {
            return rows::refuse(
                "data.p_x_sigma",
                self.p_x_sigma,
                "must be at least 0, or -1 for data.sigma",
            );
        }
        Ok(())
    }
}
