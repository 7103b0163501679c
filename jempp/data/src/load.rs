//! Data sets by name or path, ready to train on.
//!
//! Invariant: what is loaded depends on the configuration and the files only, never on threads or the cache.

use super::cache::{Cache, Found, Kept, default_cache};
use super::{Dataset, Split, digits, hold_back};
use crate::config::DataConfig;
use crate::readers::{self, Options};
use engine::Device;
use jempp_formats::Result;
use std::path::{Path, PathBuf};
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
        Self { threads: 0, cache: default_cache(), progress: Box::new(|_, _| {}) }
    }
}

impl Reading<'_> {
    /// With the threads of a device, or with one a core if it has none.
    pub fn on(device: &Device) -> Self {
        let threads = device.threads().unwrap_or(0);
        Self { threads, ..Self::default() }
    }
}

/// Where images came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// They are part of the program.
    BuiltIn,
    /// From its files.
    Files,
    /// From its files, decoded earlier.
    Cache,
}

/// A data set that has been loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The images.
    pub set: Dataset,
    /// What kind of data set it is, and whether its files are the published ones.
    pub kind: String,
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
            Origin::BuiltIn => "loaded",
            Origin::Files => "decoded",
            Origin::Cache => "read from cache",
        };
        let ([h, w, c], pool) = (set.size(), split.train.len() + split.valid.len());
        let (name, classes, test) = (set.name(), set.classes(), split.test.len());
        let seconds = self.seconds;
        let kind = &self.kind;
        format!(
            "data {name}: {kind}, {classes} classes, {pool} + {test} images {h}×{w}×{c}, {how} in {seconds:.1} s"
        )
    }
}

/// The data set that `config` names, split into training, validation and test images.
///
/// The form of a path's data set is found out from what is there. `valid_size` training images are held back as in
/// [`hold_back`], unless the data set has a validation part of its own.
///
/// # Errors
/// [`jempp_formats::Error::Data`] when there is no such data set or its files are unsuitable, naming folder or file;
/// [`jempp_formats::Error::Format`] when a file is damaged; [`jempp_formats::Error::Config`] when `valid_size` leaves nothing to train
/// on.
pub fn load_with(config: &DataConfig, mut reading: Reading<'_>) -> Result<Loaded> {
    let start = Instant::now();
    let mut loaded = if config.is_path() {
        from_path(config, &mut reading)?
    } else {
        let (set, split) = digits::load()?;
        let (kind, origin) = ("built in".into(), Origin::BuiltIn);
        Loaded { set, kind, split, origin, seconds: 0.0, warnings: Vec::new() }
    };
    let split = &mut loaded.split;
    if split.valid.is_empty() {
        (split.valid, split.train) = hold_back(&split.train, config.valid_size)?;
    }
    loaded.seconds = start.elapsed().as_secs_f64();
    Ok(loaded)
}

/// The data set at a path, from the cache if it is there.
fn from_path(config: &DataConfig, reading: &mut Reading<'_>) -> Result<Loaded> {
    let (name, root) = (&config.dataset, Path::new(&config.dataset));
    let options = Options::of(config);
    let work = readers::find(root, &options, reading.threads)?;
    let cache =
        reading.cache.as_deref().map(|f| Cache::new(f, root, &options.key(), work.stamp)).transpose()?;
    let mut warnings = Vec::new();
    if let Some(cache) = &cache {
        let file = cache.file.display();
        match cache.read(name) {
            Found::Whole(kept) => return Ok(ready(*kept, Origin::Cache, warnings)),
            Found::Nothing => {}
            Found::Stale => {
                warnings
                    .push(format!("files in {name} have changed since they were cached; reading them again"));
            }
            Found::Bad(why) => {
                warnings.push(format!("the cache {file} is of no use ({why}); reading {name} again"));
            }
        }
    }
    let source = (work.read)(reading)?;
    warnings.extend(source.warnings);
    let mut set = Dataset::new(name, source.size, source.classes, source.images, source.labels)?;
    if !source.class_names.is_empty() {
        set = set.with_class_names(source.class_names)?;
    }
    let kept = Kept { set, parts: source.parts, kind: source.kind };
    if let Some(Err(e)) = cache.map(|c| c.write(&kept)) {
        warnings.push(format!("the decoded images could not be cached: {e}; set JEMPP_CACHE_DIR"));
    }
    Ok(ready(kept, Origin::Files, warnings))
}

fn ready(kept: Kept, origin: Origin, warnings: Vec<String>) -> Loaded {
    let p = kept.parts;
    let (a, b, c) = (p.train as u32, (p.train + p.valid) as u32, p.total() as u32);
    let split = Split { train: (0..a).collect(), valid: (a..b).collect(), test: (b..c).collect() };
    Loaded { set: kept.set, kind: kept.kind, split, origin, seconds: 0.0, warnings }
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
