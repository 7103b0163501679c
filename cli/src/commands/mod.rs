//! One file per subcommand.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod devices;
pub(crate) mod eval;
pub(crate) mod inspect;
pub(crate) mod man;
pub(crate) mod predict;
pub(crate) mod report;
pub(crate) mod sample;
pub(crate) mod series;
pub(crate) mod sweep;
pub(crate) mod train;

use crate::args::Global;
use jempp::config::{Config, ConfigBuilder};
pub(crate) use jempp::engine::format_bytes as bytes;
use jempp::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// The configuration from a file, overrides and `--seed`. Defaults are those of `preset`, or, with a file, of the preset
/// `jempp`.
pub(crate) fn configuration(
    global: &Global,
    preset: &str,
    file: Option<&Path>,
    overrides: &[String],
) -> Result<Config> {
    builder(global, preset, file, overrides)?.finish()
}

/// As [`configuration`], before the data set is known: keys that depend on it are still open.
pub(crate) fn builder(
    global: &Global,
    preset: &str,
    file: Option<&Path>,
    overrides: &[String],
) -> Result<ConfigBuilder> {
    Sources::read(preset, file)?.builder(global, overrides)
}

/// What configurations are built from, besides overrides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sources {
    /// The preset where no source names one.
    preset: String,
    /// Text and name of a configuration file.
    file: Option<(String, String)>,
}

impl Sources {
    /// Reads the file, if there is one. Defaults are those of `preset`, or, with a file, of the preset `jempp`.
    pub(crate) fn read(preset: &str, file: Option<&Path>) -> Result<Self> {
        let Some(path) = file else { return Ok(Self { preset: preset.to_owned(), file: None }) };
        let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::Config(format!("{}: there is no such file", path.display()))
            }
            std::io::ErrorKind::InvalidData => Error::Config(format!("{}: not UTF-8 text", path.display())),
            _ => Error::io(path, e),
        })?;
        Ok(Self { preset: "jempp".to_owned(), file: Some((text, path.display().to_string())) })
    }

    /// The configuration with overrides and `--seed`, before the data set is known.
    pub(crate) fn builder(&self, global: &Global, overrides: &[String]) -> Result<ConfigBuilder> {
        let mut all: Vec<String> = overrides.to_vec();
        all.extend(global.seed.map(|s| format!("seed={s}")));
        let file = self.file.as_ref().map(|(text, name)| (text.as_str(), name.as_str()));
        ConfigBuilder::from_sources(&self.preset, file, &all)
    }
}

/// Refuses an output file that exists, or whose folder does not, before any work is done.
pub(crate) fn check_output(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(Error::Exists(path.to_path_buf()));
    }
    match path.parent() {
        Some(folder) if folder != Path::new("") && !folder.is_dir() => {
            Err(Error::io(folder, std::io::Error::from(std::io::ErrorKind::NotFound)))
        }
        _ => Ok(()),
    }
}

/// Refuses an output file whose name does not end as files of its format do.
pub(crate) fn check_ending(path: &Path, endings: &[&str]) -> Result<()> {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    if endings.contains(&ending.as_str()) {
        return Ok(());
    }
    let allowed = endings.iter().map(|e| format!(".{e}")).collect::<Vec<_>>().join(" or ");
    Err(Error::Config(format!("{}: name a file that ends in {allowed}", path.display())))
}

/// A value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::Internal(e.to_string()))
}

/// Writes to standard output. A reader that has gone away, as in `… | head`, ends the program quietly.
pub(crate) fn print(text: &str) -> Result<()> {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("standard output", e)),
        _ => Ok(()),
    }
}
