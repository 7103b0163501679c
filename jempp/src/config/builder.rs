//! A configuration before the data set is known, which determines image size and classes where no source gives them.
//!
//! Invariant: a key that a source names keeps that source's value.

use super::retired::{self, RETIRED};
use super::{Config, DataConfig, ModelConfig, merge};
use crate::error::{Error, Result};
use jempp_data::Loaded;
use std::collections::BTreeSet;

const IMAGE_SIZE: &str = "model.image_size";
const CLASSES: &str = "model.classes";

/// A configuration that remembers which keys were given and which come from the preset.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigBuilder {
    config: Config,
    given: BTreeSet<String>,
}

impl ConfigBuilder {
    /// Merges the sources like [`Config::from_sources`], but without the checks that depend on the images;
    /// [`ConfigBuilder::fit`] and [`ConfigBuilder::finish`] make those.
    ///
    /// # Errors
    /// Those of [`Config::from_sources`].
    pub fn from_sources(
        default_preset: &str,
        toml: Option<(&str, &str)>,
        overrides: &[String],
    ) -> Result<Self> {
        let merged = merge::merge(default_preset, toml, overrides, RETIRED)?;
        retired::warn(&merged.warnings);
        let builder = Self { config: merged.config, given: merged.given };
        // Errors that do not depend on the data set are reported before it is read.
        let mut largest = builder.clone();
        largest.answer([4096, 4096, 3], 2);
        largest.config.validate()?;
        Ok(builder)
    }

    /// The configuration with the preset's values for what was not given.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether a source names `key`.
    pub fn is_given(&self, key: &str) -> bool {
        self.given.contains(key)
    }

    /// Sets the seed unless a source gives one.
    #[must_use]
    pub fn default_seed(mut self, seed: u64) -> Self {
        if !self.is_given("seed") {
            self.config.seed = seed;
        }
        self
    }

    /// Gives the keys of the network that no source names the values of the model that training starts from
    /// (`train.from`): depth, width, norm, leak, energy head and, unless the data set determines them, image size and
    /// classes.
    pub fn adopt(&mut self, theirs: &ModelConfig) {
        let open = |key: &str| !self.given.contains(key);
        let (t, m) = (&self.config.train, &theirs);
        let trains_density = t.p_x_weight > 0.0 || t.p_x_y_weight > 0.0;
        let mine = &mut self.config.model;
        let mut numbers = [
            ("model.depth", &mut mine.depth, m.depth),
            ("model.widen_factor", &mut mine.widen_factor, m.widen_factor),
            (CLASSES, &mut mine.classes, m.classes),
        ];
        numbers.iter_mut().filter(|n| open(n.0)).for_each(|(_, to, from)| **to = *from);
        if open(IMAGE_SIZE) {
            mine.image_size = m.image_size;
        }
        if open("model.leak") {
            mine.leak = m.leak;
        }
        if open("model.norm") {
            mine.norm = m.norm;
        }
        // Where no log p(x) is trained, an energy head has nothing to do.
        if open("model.energy_head") && trains_density {
            mine.energy_head = m.energy_head;
        }
    }

    /// Whether the data set determines the model's image size or classes: it was named or is a path, and at least one
    /// of the two keys was not given.
    pub fn is_open(&self) -> bool {
        let named = self.config.data.is_path() || self.is_given("data.dataset");
        named && !(self.is_given(IMAGE_SIZE) && self.is_given(CLASSES))
    }

    /// How the data are to be read. With the built-in digits, the crops, flips and validation images of a preset made
    /// for photographs are off unless a source sets them.
    pub fn data(&self) -> DataConfig {
        let mut data = self.config.data.clone();
        if !data.is_path() {
            data.pad = if self.is_given("data.pad") { data.pad } else { 0 };
            data.flip = self.is_given("data.flip") && data.flip;
            data.valid_size = if self.is_given("data.valid_size") { data.valid_size } else { 0 };
        }
        data
    }

    /// Whether the number of validation images is the preset's, and not one that a source gives.
    pub fn default_valid_size(&self) -> bool {
        self.config.data.is_path() && !self.is_given("data.valid_size")
    }

    /// The configuration for a data set that was loaded as [`ConfigBuilder::data`] and
    /// [`ConfigBuilder::default_valid_size`] say: also notes where it was found and how many images were held out.
    ///
    /// # Errors
    /// Those of [`ConfigBuilder::fit`].
    pub fn fit_to(mut self, data: &Loaded) -> Result<Config> {
        if self.default_valid_size() && !data.split.train.is_empty() && data.valid_size > 0 {
            self.config.data.valid_size = data.valid_size;
        }
        self.config.data.base.clone_from(&data.base);
        self.fit(data.set.size(), data.set.classes())
    }

    /// The configuration for images of `size` = [H, W, C] in `classes` classes, read as [`ConfigBuilder::data`] says.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not valid for those.
    pub fn fit(mut self, size: [usize; 3], classes: usize) -> Result<Config> {
        if classes < 2 && !self.is_given(CLASSES) {
            return Err(Error::Config(format!(
                "data set `{}` has one class or no labels, but a model needs at least two classes: put the images in a folder per \
                 class, name a table of labels (data.labels_csv), or give labels beside the images in an .npz; for CelebA, choose an attribute as the label \
                 (data.attribute=Smiling, for example)",
                self.config.data.dataset
            )));
        }
        self.answer(size, classes);
        self.finish()
    }

    /// The configuration as it stands.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not valid.
    pub fn finish(self) -> Result<Config> {
        self.config.validate()?;
        Ok(self.config)
    }

    fn answer(&mut self, size: [usize; 3], classes: usize) {
        if !self.is_given(IMAGE_SIZE) {
            self.config.model.image_size = size;
        }
        if !self.is_given(CLASSES) {
            self.config.model.classes = classes;
        }
        self.config.data = self.data();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder(toml: &str, overrides: &[&str]) -> Result<ConfigBuilder> {
        let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_string()).collect();
        ConfigBuilder::from_sources("digits", Some((toml, "run.toml")), &overrides)
    }

    #[test]
    fn data_answer_what_was_left_open() {
        let fit = |toml, overrides: &[&str]| {
            let c = builder(toml, overrides).unwrap().fit([6, 7, 3], 4).unwrap();
            (c.model.image_size, c.model.classes)
        };
        assert_eq!(fit("", &["data.dataset=some/where"]), ([6, 7, 3], 4));
        assert_eq!(fit("[data]\ndataset = \"some/where\"", &[]), ([6, 7, 3], 4));
        assert_eq!(fit("[model]\nclasses = 9", &["data.dataset=x"]), ([6, 7, 3], 9));
        assert_eq!(fit("", &["data.dataset=x", "model.image_size=[9, 9, 1]"]), ([9, 9, 1], 4));
        // A preset for other images, on the digits.
        for preset in ["jempp", "jem", "softmax"] {
            let preset = format!("preset={preset}");
            assert_eq!(fit("", &[&preset]), ([6, 7, 3], 4));
            let c = builder("", &[&preset, "data.dataset=digits", "data.pad=1"]).unwrap();
            assert!(c.is_open() && !builder("", &[&preset]).unwrap().is_open());
            assert_eq!(c.data().valid_size, 0);
            let c = c.fit([8, 8, 1], 10).unwrap().data;
            assert_eq!((c.pad, c.flip, c.valid_size, c.sigma), (1, false, 0, 0.03));
        }
        let one = builder("", &["data.dataset=x"]).unwrap().fit([6, 7, 3], 1).unwrap_err().to_string();
        assert!(one.contains("`x` has one class or no labels") && one.contains("data.attribute"), "{one}");
        // Values that a source gives are kept.
        let whole = Config::preset("digits").unwrap().to_toml().unwrap();
        assert_eq!(fit(&whole, &["data.dataset=x"]), ([8, 8, 1], 10));
    }

    #[test]
    fn ranges_wait_for_the_data_where_they_must() {
        // The border must be smaller than the images, whose size differs from the preset's.
        let wide = || builder("", &["data.dataset=x", "data.pad=8"]).unwrap();
        assert!(wide().fit([32, 32, 3], 10).is_ok());
        assert!(wide().fit([8, 8, 3], 10).unwrap_err().to_string().contains("`data.pad` = 8"));
        assert!(wide().finish().is_err());
        assert!(wide().fit([3, 3, 3], 10).unwrap_err().to_string().contains("model.image_size"));
        for wrong in ["train.lr=0", "data.pad=5000"] {
            assert!(builder("", &["data.dataset=x", wrong]).is_err(), "{wrong}");
        }
    }
}
