//! Data sets by name or path, ready to train on.
//!
//! Invariant: what is loaded depends on the configuration and the files only, never on threads or the cache.

use super::{Dataset, Split, digits, folder, hold_back};
use crate::config::DataConfig;
use crate::error::Result;
use engine::Device;
use std::path::PathBuf;
use std::time::Instant;

/// How a data set is read.
pub struct Reading<'a> {
    /// Threads that decode; 0 means one a core.
    pub threads: usize,
    /// The folder in which decoded data sets are kept; `None` keeps none.
    pub cache: Option<PathBuf>,
    /// Hears of files decoded and files in all; not called for what need not be decoded.
    pub progress: Box<dyn FnMut(usize, usize) + 'a>,
}

impl Default for Reading<'_> {
    fn default() -> Self {
        Self { threads: 0, cache: folder::default_cache(), progress: Box::new(|_, _| {}) }
    }
}

impl Reading<'_> {
    /// With the threads of a device, or with one a core if it has none.
    pub fn on(device: &Device) -> Self {
        let threads = device.as_cpu().map_or(0, |cpu| cpu.pool.threads());
        Self { threads, ..Self::default() }
    }
}

/// Where images came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// They are part of the program.
    BuiltIn,
    /// From image files.
    Files,
    /// From image files, decoded earlier.
    Cache,
}

/// A data set that has been loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The images.
    pub set: Dataset,
    /// What they are for.
    pub split: Split,
    /// Where they came from.
    pub origin: Origin,
    /// Seconds that took.
    pub seconds: f64,
    /// What is worth worrying about.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// What was loaded, in a line.
    pub fn summary(&self) -> String {
        let (set, split) = (&self.set, &self.split);
        let how = match self.origin {
            Origin::BuiltIn => "built in, loaded",
            Origin::Files => "decoded",
            Origin::Cache => "read from cache",
        };
        let ([h, w, c], pool) = (set.size(), split.train.len() + split.valid.len());
        let (name, classes, test) = (set.name(), set.classes(), split.test.len());
        let seconds = self.seconds;
        format!("data {name}: {classes} classes, {pool} + {test} images {h}×{w}×{c}, {how} in {seconds:.1} s")
    }
}

/// The data set that `config` names, split into training, validation and test images.
///
/// A folder's training images are those of `train`, class by class, of which `valid_size` are held back as in
/// [`hold_back`]; its test images are those of `test`.
///
/// # Errors
/// [`crate::Error::Data`] when there is no such data set or its files are unsuitable, naming folder or file;
/// [`crate::Error::Config`] when `valid_size` leaves nothing to train on.
pub fn load_with(config: &DataConfig, mut reading: Reading<'_>) -> Result<Loaded> {
    let start = Instant::now();
    let (set, mut split, origin, warnings) = if config.is_path() {
        let read = folder::read(&config.dataset, &mut reading)?;
        let (train, all) = (read.train as u32, read.set.len() as u32);
        let split = Split { train: (0..train).collect(), valid: Vec::new(), test: (train..all).collect() };
        (read.set, split, read.origin, read.warnings)
    } else {
        let (set, split) = digits::load()?;
        (set, split, Origin::BuiltIn, Vec::new())
    };
    (split.valid, split.train) = hold_back(&split.train, config.valid_size)?;
    Ok(Loaded { set, split, origin, seconds: start.elapsed().as_secs_f64(), warnings })
}

/// As [`load_with`]; warnings are logged.
///
/// # Errors
/// Those of [`load_with`].
pub fn load(config: &DataConfig, reading: Reading<'_>) -> Result<(Dataset, Split)> {
    let loaded = load_with(config, reading)?;
    for w in &loaded.warnings {
        tracing::warn!("{w}");
    }
    Ok((loaded.set, loaded.split))
}
