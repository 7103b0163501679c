//! Loading of data sets by name or path.
//!
//! Invariant: the result depends on the configuration and the files only, never on threads or the cache.

use crate::cache::{Cache, Found, Kept};
use crate::classes::listed;
use crate::config::DataConfig;
use crate::dataset::{Dataset, Split, hold_back};
use crate::digits;
use crate::mt19937;
use crate::readers;
use crate::readers::options::Options;
use crate::reading::Reading;
use jempp_formats::files::expand_home;
use jempp_formats::{Error, Result};
use std::path::{Path, PathBuf};
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
    /// The number of images held out for validation: `data.valid_size`, or less where that is a default.
    pub valid_size: usize,
    /// The folder that a relative path was found in; empty for others.
    pub base: String,
    /// Whether the data set has parts of its own; otherwise the test images are a random tenth.
    pub has_parts: bool,
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
        let [h, w, c] = set.size();
        let (name, kind, seconds) = (set.name(), &self.kind, self.seconds);
        let [train, valid, test] = [&split.train, &split.valid, &split.test].map(Vec::len);
        let classes = match set.is_labelled() {
            true => format!("{} classes", set.classes()),
            false => "no labels".into(),
        };
        let parts = [(train, "training"), (valid, "validation"), (test, "test")];
        let parts: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, part)| format!("{n} {part}")).collect();
        format!(
            "data {name}: {kind}, {classes}, {} images {h}×{w}×{c}, {how} in {seconds:.1} s",
            parts.join(" + ")
        )
    }
}

/// Without test images of its own, one in this many images of a data set is held out for test.
const TEST_EVERY: usize = 10;

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
        Loaded { has_parts: true, ..with(set, split, kind, origin) }
    };
    if loaded.split.test.is_empty() {
        hold_out_test(&mut loaded);
    }
    let Loaded { split, set, warnings, valid_size, .. } = &mut loaded;
    if split.valid.is_empty() && !split.train.is_empty() {
        let (n, mut size) = (split.train.len(), config.valid_size);
        if reading.default_valid_size && size > n / 10 {
            size = n / 10;
            warnings.push(format!(
                "data.valid_size is {size}, a tenth of the {n} training images, instead of the preset's {}",
                config.valid_size
            ));
        }
        (split.valid, split.train) = hold_back(&split.train, size)?;
        *valid_size = size;
    }
    warnings.extend(missing_classes(set, split));
    loaded.seconds = start.elapsed().as_secs_f64();
    Ok(loaded)
}

/// Holds a random selection of the training images out for test, always the same.
fn hold_out_test(loaded: &mut Loaded) {
    let all = loaded.split.train.clone();
    let test = all.len().div_ceil(TEST_EVERY).min(all.len().saturating_sub(1));
    let order = mt19937::numpy_permutation(1234, all.len());
    let (train, held) = order.split_at(all.len() - test);
    let sorted = |part: &[usize]| {
        let mut part: Vec<u32> = part.iter().map(|i| all[*i]).collect();
        part.sort_unstable();
        part
    };
    (loaded.split.train, loaded.split.test) = (sorted(train), sorted(held));
    loaded.has_parts = false;
    let name = loaded.set.name();
    loaded.warnings.push(format!(
        "{name} has no test images: a fixed random selection of {test} of its images is held out for test"
    ));
}

/// The warning that there are classes without training images, if there are training images.
fn missing_classes(set: &Dataset, split: &Split) -> Option<String> {
    let mut seen = vec![split.train.is_empty(); set.classes()];
    for i in &split.train {
        seen[usize::from(set.labels()[*i as usize])] = true;
    }
    let name = |i: usize| set.class_names().get(i).cloned().unwrap_or_else(|| i.to_string());
    let missing: Vec<String> = (0..seen.len()).filter(|i| !seen[*i]).map(name).collect();
    let shown = listed(&missing.iter().map(String::as_str).collect::<Vec<_>>());
    let of = set.classes();
    (!missing.is_empty()).then(|| {
        format!("{} of the {of} classes have no training images and cannot be learnt: {shown}", missing.len())
    })
}

/// The place of the data set: relative paths are looked for in `data.base` first, then in the working directory. Returns the
/// path, and the folder that a relative one was found in.
fn locate(config: &DataConfig) -> Result<(PathBuf, String)> {
    let named = expand_home(Path::new(&config.dataset));
    if named.is_absolute() {
        return Ok((named, String::new()));
    }
    let here = || std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default();
    let base = Path::new(&config.base);
    let inside = base.join(&named);
    match (config.base.is_empty(), inside.exists(), named.exists()) {
        (false, true, _) => Ok((inside, config.base.clone())),
        (false, false, false) => Err(Error::Data(format!(
            "data set \"{}\": it is neither in {}, where it was, nor in {}; name it with data.dataset or --data",
            config.dataset,
            config.base,
            here()
        ))),
        _ => Ok((named, here())),
    }
}

/// Loads the data set at a path, from the cache if possible.
fn from_path(config: &DataConfig, reading: &mut Reading<'_>) -> Result<Loaded> {
    let (root, base) = locate(config)?;
    // In messages the home folder has its own name.
    let name =
        if config.dataset.starts_with('~') { root.display().to_string() } else { config.dataset.clone() };
    let name = name.as_str();
    let options = Options::of(config);
    let work = readers::find(&root, &options, reading.threads)?;
    let cache =
        reading.cache.as_deref().map(|f| Cache::new(f, &root, &options.key(), work.stamp)).transpose()?;
    let mut warnings = Vec::new();
    if let Some(cache) = &cache {
        let file = cache.file.display();
        match cache.read(name) {
            Found::Whole(kept) => {
                return Ok(Loaded { base, ..with_split(*kept, Origin::Cache) });
            }
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
    let mut set = Dataset::new(name, source.size, source.classes, source.images, source.labels)?;
    if !source.class_names.is_empty() {
        set = set.with_class_names(source.class_names)?;
    }
    if let Some(resize) = &options.resize {
        set = set.resized(resize)?;
    }
    let kept = Kept { set, parts: source.parts, kind: source.kind, warnings: source.warnings };
    if let Some(Err(e)) = cache.map(|c| c.write(&kept)) {
        warnings.push(format!("the decoded images could not be cached: {e}; set JEMPP_CACHE_DIR"));
    }
    let mut loaded = with_split(kept, Origin::Files);
    warnings.append(&mut loaded.warnings);
    Ok(Loaded { base, warnings, ..loaded })
}

fn with(set: Dataset, split: Split, kind: String, origin: Origin) -> Loaded {
    let (base, warnings) = (String::new(), Vec::new());
    Loaded { set, kind, split, origin, seconds: 0.0, valid_size: 0, base, has_parts: true, warnings }
}

fn with_split(kept: Kept, origin: Origin) -> Loaded {
    let p = kept.parts;
    let (a, b, c) = (p.train as u32, (p.train + p.valid) as u32, p.total() as u32);
    let split = Split { train: (0..a).collect(), valid: (a..b).collect(), test: (b..c).collect() };
    Loaded { warnings: kept.warnings, ..with(kept.set, split, kept.kind, origin) }
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
