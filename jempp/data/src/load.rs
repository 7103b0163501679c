//! Loading of data sets by name or path.
//!
//! Invariant: the result depends on the configuration and the files only, never on threads or the cache.

use crate::cache::{Cache, Found, Kept};
use crate::config::DataConfig;
use crate::dataset::{Dataset, Split, hold_back};
use crate::digits;
use crate::readers;
use crate::readers::options::Options;
use crate::reading::Reading;
use jempp_formats::Result;
use std::path::Path;
use std::time::Instant;

/// Where the images of a data set came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built into the program.
    BuiltIn,
    /// Decoded from the data set's files.
    Files,
    /// Read from the cache of decoded images.
    Cache,
}

/// A loaded data set.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The images and labels.
    pub set: Dataset,
    /// Description of the format, and whether the files are the published ones.
    pub kind: String,
    /// Training, validation and test images.
    pub split: Split,
    /// Where the images came from.
    pub origin: Origin,
    /// Loading time in seconds.
    pub seconds: f64,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// A summary in one line.
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

/// Loads the data set that `config` names, split into training, validation and test images.
///
/// The format of a data set at a path is detected from its files. Unless the data set defines validation images itself,
/// `valid_size` training images are held out for validation, the same ones as in JEM++'s published code.
///
/// # Errors
/// [`jempp_formats::Error::Data`] when there is no such data set or its files are unsuitable, naming folder or file;
/// [`jempp_formats::Error::Format`] when a file is damaged; [`jempp_formats::Error::Config`] when `valid_size` leaves
/// no training images.
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

/// Loads the data set at a path, from the cache if possible.
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
            Found::Whole(kept) => return Ok(with_split(*kept, Origin::Cache, warnings)),
            Found::Nothing => {}
            Found::Stale => {
                warnings
                    .push(format!("files in {name} have changed since they were cached; reading them again"));
            }
            Found::Bad(why) => {
                warnings.push(format!("the cache {file} is unusable ({why}); reading {name} again"));
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
    Ok(with_split(kept, Origin::Files, warnings))
}

fn with_split(kept: Kept, origin: Origin, warnings: Vec<String>) -> Loaded {
    let p = kept.parts;
    let (a, b, c) = (p.train as u32, (p.train + p.valid) as u32, p.total() as u32);
    let split = Split { train: (0..a).collect(), valid: (a..b).collect(), test: (b..c).collect() };
    Loaded { set: kept.set, kind: kept.kind, split, origin, seconds: 0.0, warnings }
}

/// Loads a data set like [`load_with`] and logs its warnings.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_is_taken_from_training_only() {
        let mut config = DataConfig { valid_size: 100, ..DataConfig::default() };
        let (set, split) = load(&config, Reading::default()).unwrap();
        assert_eq!((split.valid.len(), split.train.len(), split.test.len()), (100, 1337, 360));
        let mut all = [split.valid, split.train, split.test].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..set.len() as u32));
        config.valid_size = 1437;
        assert!(load(&config, Reading::default()).unwrap_err().to_string().contains("must be below 1437"));
        config.dataset = "mnist".to_string();
        assert!(load(&config, Reading::default()).unwrap_err().to_string().contains("\"mnist\""));
    }
}
