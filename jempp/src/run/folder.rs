//! The run folder: `config.toml`, `env.json`, `metrics.jsonl`, `tb/`, `samples/`, `plots/`, `ckpt/`, `result.json`.

use super::Report;
use super::divergence::Position;
use super::history::History;
use crate::checkpoint::{self, FolderLock};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::run::curves;
use crate::train::WarmStart;
use engine::Device;
use jempp_data::Dataset;
use jempp_formats::files::write_atomic;
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Name of the file with metrics and events, one JSON object per line.
const METRICS: &str = "metrics.jsonl";
/// Name of the file with the result of a run that has ended.
const RESULT: &str = "result.json";

/// A run folder, locked against other processes while this value lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: FolderLock,
}

impl Folder {
    /// Creates the folder `out`.
    ///
    /// # Errors
    /// [`Error::Exists`] if it exists; [`Error::Io`].
    pub fn create(out: &Path) -> Result<Self> {
        if let Some(parent) = out.parent() {
            fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
        }
        match fs::create_dir(out) {
            Ok(()) => Self::lock(out),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::Exists(out.to_path_buf())),
            Err(e) => Err(Error::io(out, e)),
        }
    }

    /// Creates the first of `parent/train-001`, `parent/train-002`, … that does not exist.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be created.
    pub fn next(parent: &Path) -> Result<Self> {
        for i in 1..=u32::MAX {
            match Self::create(&parent.join(format!("train-{i:03}"))) {
                Err(Error::Exists(_)) => {}
                other => return other,
            }
        }
        Err(Error::Internal("no free run number".into()))
    }

    /// Opens the folder of an existing run.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no such folder, or another process trains into it.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(Error::Data(format!("{}: there is no such run folder", path.display())));
        }
        Self::lock(path)
    }

    fn lock(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_path_buf(), _lock: FolderLock::acquire(path)? })
    }

    /// Removes the lines of `metrics.jsonl` that the state `at` does not have behind it, and that the run writes again.
    pub(super) fn rewind(&self, at: &Position) -> Result<()> {
        let Some(text) = self.read_metrics()? else { return Ok(()) };
        let not_later = |line: &&str| {
            let value: Value = serde_json::from_str(line).unwrap_or_default();
            !at.is_before(&value)
        };
        let kept: String = text.lines().filter(not_later).flat_map(|l| [l, "\n"]).collect();
        self.write(METRICS, kept.as_bytes())
    }

    /// What the metrics say of the run so far; its present stage began after `epochs_before` epochs.
    pub(super) fn history(&self, epochs_before: u64) -> Result<History> {
        let text = self.read_metrics()?.unwrap_or_default();
        Ok(History::read(&text, epochs_before))
    }

    /// The text of `metrics.jsonl`, if there is one.
    fn read_metrics(&self) -> Result<Option<String>> {
        let path = self.path.join(METRICS);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(&path, e)),
        }
    }

    /// Removes `result.json`: a run that is resumed has not ended.
    pub(super) fn reopen(&self) -> Result<()> {
        let path = self.path.join(RESULT);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&path, e)),
            _ => Ok(()),
        }
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `config.toml` and `env.json`, and creates `samples/`, before the first iteration.
    pub(super) fn begin(
        &self,
        config: &Config,
        device: &Device,
        set: &Dataset,
        warm: Option<&WarmStart>,
    ) -> Result<()> {
        let samples = self.path.join("samples");
        fs::create_dir_all(&samples).map_err(|e| Error::io(&samples, e))?;
        self.write("config.toml", config.to_toml()?.as_bytes())?;
        let mut env = json!({
            "jempp_version": env!("CARGO_PKG_VERSION"),
            "device": device.to_string(),
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "dataset": set.name(),
            "dataset_images": set.len(),
            "dataset_crc32c": format!("{:08x}", set.crc32c()),
            "command": std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        });
        if !set.class_names().is_empty() {
            env["class_names"] = json!(set.class_names());
        }
        if let Some(warm) = warm {
            let crc32c = format!("{:08x}", warm.crc32c);
            env["from"] = json!({"path": config.train.from, "step": warm.step, "weights_crc32c": crc32c});
        }
        self.write_json("env.json", &env)
    }

    /// Appends a line to `metrics.jsonl`.
    pub(super) fn metrics(&self, line: &Value) -> Result<()> {
        self.append(METRICS, &line.to_string())
    }

    /// Draws `plots/learning.svg` from `metrics.jsonl` as it is now.
    pub(super) fn curves(&self) -> Result<()> {
        let metrics = self.path.join(METRICS);
        let text = fs::read_to_string(&metrics).map_err(|e| Error::io(&metrics, e))?;
        let Some(picture) = curves::svg(&text) else { return Ok(()) };
        let plots = self.path.join("plots");
        fs::create_dir_all(&plots).map_err(|e| Error::io(&plots, e))?;
        self.write("plots/learning.svg", picture.as_bytes())
    }

    /// Appends a line to `log.txt`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn log(&self, line: &str) -> Result<()> {
        self.append("log.txt", line)
    }

    fn append(&self, name: &str, line: &str) -> Result<()> {
        let path = self.path.join(name);
        let open = OpenOptions::new().create(true).append(true).open(&path);
        open.and_then(|mut f| writeln!(f, "{line}")).map_err(|e| Error::io(&path, e))
    }

    /// Writes `result.json`.
    pub(super) fn result(&self, report: &Report) -> Result<()> {
        let value = serde_json::to_value(report).map_err(|e| Error::Internal(e.to_string()))?;
        self.write_json(RESULT, &value)
    }

    fn write_json(&self, name: &str, value: &Value) -> Result<()> {
        self.write(name, format!("{value:#}\n").as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        Ok(write_atomic(&self.path.join(name), |w| w.write_all(bytes))?)
    }

    /// What to do after training has collapsed.
    pub(super) fn advice(&self) -> String {
        let kept = match last_checkpoint(&self.path) {
            Some(dir) => format!("The last good checkpoint is {}.", dir.display()),
            None => "No checkpoint had been saved yet; train.checkpoint_every sets how often.".to_owned(),
        };
        format!(
            "{kept}\nWhat helps, most first: train.on_divergence=\"rollback\", if it is off; a lower train.lr; train.energy_l2=0.1; data.sigma=0.1; \
             sampler.noise=0.01 with sampler.clip_after_noise=true; more sampler.outer_steps; another seed."
        )
    }
}

/// The last intact checkpoint of a run folder, if there is one.
pub fn last_checkpoint(folder: &Path) -> Option<PathBuf> {
    checkpoint::load_last(&folder.join("ckpt")).ok().map(|(c, _)| c.dir)
}
