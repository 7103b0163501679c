//! Taking a run up again, bit by bit where it was left.
//!
//! What must hold: weights, running statistics, the optimiser's moments, averages, buffer, counters and data cursors come back exactly, and
//! everything else follows from them; so an interrupted run ends like an unbroken one.

use super::{Folder, Session};
use crate::checkpoint::{self, Checkpoint};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::train::Counters;
use crate::train::state;
use engine::Device;
use jempp_data::Cursor;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// What `format` says in a checkpoint's `state.json`.
pub(crate) const STATE_FORMAT: &str = "jempp-state-1";

impl Session {
    /// The run in `folder`, at its last good checkpoint, with `overrides` to its configuration (a later end, say), and
    /// warnings about checkpoints that had to be passed over.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no checkpoint or the data are others than before, [`Error::Format`] if none is whole
    /// or the network is another.
    pub fn resume(
        folder: &Path,
        device: &Device,
        overrides: &[String],
    ) -> Result<(Self, Folder, Vec<String>)> {
        let (c, warnings) = checkpoint::load_last(&folder.join("ckpt"))?;
        let format: String = field(&c, "format")?;
        if format != STATE_FORMAT {
            let dir = c.dir.display();
            return Err(Error::Format(format!("{dir}: the state is `{format}`, not `{STATE_FORMAT}`")));
        }
        let text: String = field(&c, "config")?;
        let config = Config::from_sources("jempp", Some((&text, "the run's configuration")), overrides)?;
        let mut session = Self::new(&config, device)?;
        let crc: String = field(&c, "dataset_crc32c")?;
        let now = format!("{:08x}", session.set.crc32c());
        if crc != now {
            let name = session.set.name();
            return Err(Error::Data(format!("data set `{name}` has changed: CRC-32C {crc} then, {now} now")));
        }
        session.restore(&c)?;
        let folder = Folder::open(folder)?;
        folder.rewind(c.step)?;
        Ok((session, folder, warnings))
    }

    fn restore(&mut self, c: &Checkpoint) -> Result<()> {
        state::restore(&mut self.trainer, &c.trainer)?;
        let counters: Counters = field(c, "counters")?;
        if counters.iteration >= self.total {
            let (done, total) = (counters.iteration, self.total);
            return Err(Error::Config(format!(
                "the run has done {done} of {total} iterations: there is nothing to go on with; a larger \
                 train.epochs would give it more"
            )));
        }
        self.trainer.set_counters(counters)?;
        self.unlabelled.restore(field::<Cursor>(c, "unlabelled")?)?;
        Ok(self.labelled.restore(field::<Cursor>(c, "labelled")?)?)
    }
}

/// What a checkpoint's `state.json` says of `name`.
///
/// # Errors
/// [`Error::Format`] when it is missing or unreadable.
pub(crate) fn field<T: DeserializeOwned>(c: &Checkpoint, name: &str) -> Result<T> {
    let value = c.state.get(name).cloned().unwrap_or_default();
    serde_json::from_value(value).map_err(|e| Error::Format(format!("{}: {name}: {e}", c.dir.display())))
}

/// The newest unfinished run of `parent` that has a checkpoint.
///
/// # Errors
/// [`Error::Data`] if there is none.
pub fn latest_unfinished(parent: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(parent).map(|d| d.flatten().map(|e| e.path()).collect::<Vec<_>>());
    let mut runs: Vec<PathBuf> = entries.unwrap_or_default();
    runs.retain(|p| p.join("ckpt").is_dir() && !p.join("result.json").exists());
    runs.sort();
    runs.pop().ok_or_else(|| {
        let parent = parent.display();
        Error::Data(format!(
            "no unfinished run with a checkpoint in {parent}; name a run folder with --resume DIR"
        ))
    })
}
