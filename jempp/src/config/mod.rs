//! The configuration of a run: a preset, then a TOML file, then `key=value` overrides.
//!
//! A key is one row in the file of its section: type, default, range, unit and description. The structs, the table of
//! keys, the checks and the written TOML are derived from it by the macro `rows::section!`; `relations` holds what
//! involves several keys, `presets` the differences from the defaults, `retired` the keys of older versions.
//!
//! Invariant: a [`Config`] that came from [`Config::from_sources`] is complete and valid, and
//! [`Config::to_toml`] writes one that reads back equal.

mod advice;
mod builder;
mod eval;
mod fit;
pub mod keys;
mod merge;
mod model;
mod presets;
mod relations;
mod retired;
mod sampler;
mod stages;
mod train;
mod write;

#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use rows::{Kind, Range};

pub use advice::with_advice;
pub use builder::ConfigBuilder;
pub use eval::{EvalBn, EvalConfig};
pub use jempp_data::config::{Crop, DataConfig, LabelKind, ResizeFilter, ResizeMode, Sampling, rows};
pub use model::{ModelConfig, NormKind};
pub use presets::PRESETS;
pub use sampler::{Init, Prior, SamplerConfig};
pub use stages::Stages;
pub use train::{Adversary, EnergyLoss, OnDivergence, Optimizer, Plc, Schedule, TrainBn, TrainConfig};

rows::section! {
    /// Everything that a run depends on, beside its data.
    pub struct Config, "" {
        /// Seed of all random numbers.
        // Up to TOML's largest integer.
        seed: u64 = 1, in Range::Whole(0, i64::MAX as u64);
        /// Preset that supplies the values of all keys that are not set.
        preset: String = "jempp".to_string(), kind Kind::Choice(PRESETS);
        /// Stages of the training, in order, each a table [[stage]] of `epochs` and of the keys that differ in it; empty: one
        /// stage of train.epochs.
        stage: Stages = Stages::default();
    }
    sections {
        /// The network.
        model: ModelConfig;
        /// The training loop.
        train: TrainConfig;
        /// The Langevin sampler and its replay buffer.
        sampler: SamplerConfig;
        /// The data set and its augmentation.
        data: DataConfig;
        /// Evaluation.
        eval: EvalConfig;
    }
}

impl Config {
    /// Builds a configuration from a preset, an optional TOML document `(text, name)` and overrides `key=value`,
    /// later ones winning. The preset is the last of: `default_preset`, the document's `preset`, the overrides'.
    ///
    /// An override's value is read as TOML, or as a bare string if it is not valid TOML. Keys of older versions that
    /// were renamed or removed are accepted with a warning in the log.
    ///
    /// # Errors
    /// [`Error::Config`], naming the source, the key, what was found and what was expected, for a malformed document,
    /// an unknown preset or key, a value of the wrong type or out of range.
    pub fn from_sources(
        default_preset: &str,
        toml: Option<(&str, &str)>,
        overrides: &[String],
    ) -> Result<Self> {
        ConfigBuilder::from_sources(default_preset, toml, overrides)?.finish()
    }

    /// The values of a preset.
    ///
    /// # Errors
    /// [`Error::Config`] when there is none of that name.
    pub fn preset(name: &str) -> Result<Self> {
        presets::preset(name)
    }

    /// A complete TOML document in which every key is described; it reads back equal.
    ///
    /// # Errors
    /// [`Error::Config`] when a number has no TOML form (a seed above 2⁶³ − 1); never for a valid one.
    pub fn to_toml(&self) -> Result<String> {
        write::to_toml(self)
    }

    /// What differs from the preset, as overrides would give it: `train.lr=0.2`, in the order of [`keys::all`].
    ///
    /// # Errors
    /// [`Error::Config`] when the preset is unknown.
    pub fn changes(&self) -> Result<Vec<String>> {
        write::changes(self)
    }

    /// The values of all keys as TOML, by name, in the order of [`keys::all`].
    ///
    /// # Errors
    /// [`Error::Config`] when a number has no TOML form; never for a valid configuration.
    pub fn values(&self) -> Result<Vec<(&'static str, String)>> {
        write::values(self)
    }

    /// Checks every value and the relations between them.
    ///
    /// # Errors
    /// [`Error::Config`], naming the key, its value and the allowed range.
    pub fn validate(&self) -> Result<()> {
        self.check_ranges().and_then(|()| relations::check_relations(self)).map_err(Error::Config)?;
        if self.stage.is_empty() { Ok(()) } else { self.stages().map(|_| ()) }
    }
}
