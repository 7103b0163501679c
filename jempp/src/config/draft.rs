//! A configuration before the data are known, which may settle what nobody asked for.
//!
//! Invariant: a key that a source names keeps that source's value.

use super::{Config, DataConfig, merge};
use crate::error::{Error, Result};
use std::collections::BTreeSet;

const IMAGE_SIZE: &str = "model.image_size";
const CLASSES: &str = "model.classes";

/// A configuration that remembers which keys were given and which come from the preset.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    config: Config,
    given: BTreeSet<String>,
}

impl Draft {
    /// As [`Config::from_sources`], but for what depends on the images: that is checked by [`Draft::fit`] or
    /// [`Draft::finish`].
    ///
    /// # Errors
    /// As [`Config::from_sources`].
    pub fn from_sources(
        default_preset: &str,
        toml: Option<(&str, &str)>,
        overrides: &[String],
    ) -> Result<Self> {
        let (config, given) = merge::merge(default_preset, toml, overrides)?;
        let draft = Self { config, given };
        // What would be wrong with any data set is wrong before one is read.
        let mut most = draft.clone();
        most.answer([4096, 4096, 3], 2);
        most.config.validate()?;
        Ok(draft)
    }

    /// The configuration with the preset's values for what was not given.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether a source names `key`.
    pub fn is_given(&self, key: &str) -> bool {
        self.given.contains(key)
    }

    /// Whether the data are to settle the model's images or classes: they were named, or are in a folder, and a key was
    /// left open.
    pub fn is_open(&self) -> bool {
        let named = self.config.data.is_path() || self.is_given("data.dataset");
        named && !(self.is_given(IMAGE_SIZE) && self.is_given(CLASSES))
    }

    /// How the data are to be read. The built-in digits settle what a preset made for photographs says of crops, mirrors
    /// and validation images: there are none unless a source asks for them.
    pub fn data(&self) -> DataConfig {
        let mut data = self.config.data.clone();
        if !data.is_path() {
            data.pad = if self.is_given("data.pad") { data.pad } else { 0 };
            data.flip = self.is_given("data.flip") && data.flip;
            data.valid_size = if self.is_given("data.valid_size") { data.valid_size } else { 0 };
        }
        data
    }

    /// The configuration for images of `size` = [H, W, C] in `classes` classes, read as [`Draft::data`] says.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if it is not valid for those.
    pub fn fit(mut self, size: [usize; 3], classes: usize) -> Result<Config> {
        if classes < 2 && !self.is_given(CLASSES) {
            return Err(Error::Config(format!(
                "data set `{}` has one class, and a model is trained on two at least; of CelebA, an attribute makes them \
                 (data.attribute=Smiling, say)",
                self.config.data.dataset
            )));
        }
        self.answer(size, classes);
        self.finish()
    }

    /// The configuration as it stands.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if it is not valid.
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

    fn draft(toml: &str, overrides: &[&str]) -> Result<Draft> {
        let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_string()).collect();
        Draft::from_sources("digits", Some((toml, "run.toml")), &overrides)
    }

    #[test]
    fn data_answer_what_was_left_open() {
        let fit = |toml, overrides: &[&str]| {
            let c = draft(toml, overrides).unwrap().fit([6, 7, 3], 4).unwrap();
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
            let c = draft("", &[&preset, "data.dataset=digits", "data.pad=1"]).unwrap();
            assert!(c.is_open() && !draft("", &[&preset]).unwrap().is_open());
            assert_eq!(c.data().valid_size, 0);
            let c = c.fit([8, 8, 1], 10).unwrap().data;
            assert_eq!((c.pad, c.flip, c.valid_size, c.sigma), (1, false, 0, 0.03));
        }
        let one = draft("", &["data.dataset=x"]).unwrap().fit([6, 7, 3], 1).unwrap_err().to_string();
        assert!(one.contains("`x` has one class") && one.contains("data.attribute"), "{one}");
        // What a source settles stays as it is.
        let whole = Config::preset("digits").unwrap().to_toml().unwrap();
        assert_eq!(fit(&whole, &["data.dataset=x"]), ([8, 8, 1], 10));
    }

    #[test]
    fn ranges_wait_for_the_data_where_they_must() {
        // The border must be smaller than the images, of which the preset says the wrong thing.
        let wide = || draft("", &["data.dataset=x", "data.pad=8"]).unwrap();
        assert!(wide().fit([32, 32, 3], 10).is_ok());
        assert!(wide().fit([8, 8, 3], 10).unwrap_err().to_string().contains("`data.pad` = 8"));
        assert!(wide().finish().is_err());
        assert!(wide().fit([3, 3, 3], 10).unwrap_err().to_string().contains("model.image_size"));
        for wrong in ["train.lr=0", "data.pad=5000"] {
            assert!(draft("", &["data.dataset=x", wrong]).is_err(), "{wrong}");
        }
    }
}
