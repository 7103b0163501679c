//! Writing a checkpoint.
//!
//! Invariants: a step's folder is written under another name, every file and the folder synced, before it is renamed;
//! what it replaces is set aside and not removed until the rename is on the disk; `last` moves after that, and only
//! then are older checkpoints removed. An error on the way puts back what was there and removes what is unfinished.

use super::disk::{Disk, System, exists, remove, write_file};
use super::manifest::Manifest;
use super::names::{BEST, LAST, dotted, entries, gone, old, part, step_name, steps, target};
use super::{MANIFEST, MODEL, STATE, TRAINER};
use crate::error::{Error, Result};
use jempp_formats::container::Container;
use jempp_formats::container::format::Plan;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Saves a checkpoint as `root/step_N` (`root` is a run's `ckpt`, created if need be), lets `last` point to it and, if
/// `best`, `best` too. One of the same step is replaced.
///
/// Of the steps up to this one the newest `keep` (at least this one) stay, and the one that `best` points to; later
/// steps, left from before a run was taken up again, stay until the run reaches them. That an old checkpoint cannot be
/// removed is only logged.
///
/// # Errors
/// [`Error::Io`], for instance when the disk is full: what `last` and `best` point to loads as before. When the new
/// checkpoint itself was finished and only a pointer could not be moved, it stays. [`Error::Internal`] when a
/// container contradicts itself; then the disk was not touched.
pub fn save(
    root: &Path,
    step: u64,
    model: &Container,
    trainer: &Container,
    state: &serde_json::Value,
    best: bool,
    keep: usize,
) -> Result<PathBuf> {
    let content = Content::new(step, model, trainer, state)?;
    save_on(&System, root, &content, best, keep)
}

/// A checkpoint ready to be written.
pub(super) struct Content<'a> {
    step: u64,
    model: Plan<'a>,
    trainer: Plan<'a>,
    state: Vec<u8>,
}

impl<'a> Content<'a> {
    pub fn new(
        step: u64,
        model: &'a Container,
        trainer: &'a Container,
        state: &serde_json::Value,
    ) -> Result<Self> {
        let mut text = serde_json::to_vec_pretty(state).map_err(|e| Error::Internal(e.to_string()))?;
        text.push(b'\n');
        Ok(Self { step, model: Plan::new(model)?, trainer: Plan::new(trainer)?, state: text })
    }
}

/// [`save`] on any disk.
pub(super) fn save_on(
    disk: &dyn Disk,
    root: &Path,
    content: &Content<'_>,
    best: bool,
    keep: usize,
) -> Result<PathBuf> {
    let name = step_name(content.step);
    create_root(disk, root)?;
    tidy(disk, root)?;
    let unfinished = part(root, &name);
    let placed = write_folder(disk, &unfinished, content).and_then(|()| place(disk, root, &name));
    if let Err(e) = placed {
        lenient(remove(disk, &unfinished));
        return Err(e);
    }
    let mut pointed = point(disk, root, LAST, &name);
    if best && pointed.is_ok() {
        pointed = point(disk, root, BEST, &name);
    }
    let pointed = pointed.and_then(|()| disk.sync_dir(root).map_err(|e| Error::io(root, e)));
    // The new folder is on the disk, whatever became of the pointers.
    lenient(remove(disk, &old(root, &name)));
    pointed?;
    lenient(prune(disk, root, content.step, keep));
    Ok(root.join(name))
}

/// Logs a failure to tidy up, which harms nobody: the next save tries again.
fn lenient(result: Result<()>) {
    if let Err(e) = result {
        tracing::warn!("could not remove an old or unfinished checkpoint: {e}");
    }
}

fn create_root(disk: &dyn Disk, root: &Path) -> Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    disk.create_dir_all(root).map_err(|e| Error::io(root, e))?;
    match root.parent() {
        Some(above) if above != Path::new("") => disk.sync_dir(above).map_err(|e| Error::io(above, e)),
        _ => Ok(()),
    }
}

/// Clears away what a save that was killed has left, and puts back what it had set aside.
fn tidy(disk: &dyn Disk, root: &Path) -> Result<()> {
    for file in entries(root)? {
        let Some((name, ending)) = dotted(&file) else { continue };
        let (from, to) = (root.join(&file), root.join(name));
        if ending == "old" && !exists(&to) {
            disk.rename(&from, &to).map_err(|e| Error::io(&from, e))?;
        } else {
            remove(disk, &from)?;
        }
    }
    Ok(())
}

/// Writes all files into the new folder `dir`, the manifest last.
fn write_folder(disk: &dyn Disk, dir: &Path, content: &Content<'_>) -> Result<()> {
    disk.create_dir(dir).map_err(|e| Error::io(dir, e))?;
    let mut files = BTreeMap::new();
    files.insert(MODEL.into(), write_file(disk, &dir.join(MODEL), |w| content.model.write(w))?);
    files.insert(TRAINER.into(), write_file(disk, &dir.join(TRAINER), |w| content.trainer.write(w))?);
    files.insert(STATE.into(), write_file(disk, &dir.join(STATE), |w| w.write_all(&content.state))?);
    let manifest = Manifest::new(content.step, files);
    let manifest = manifest.render().map_err(|e| Error::Internal(e.to_string()))?;
    write_file(disk, &dir.join(MANIFEST), |w| w.write_all(manifest.as_bytes()))?;
    disk.sync_dir(dir).map_err(|e| Error::io(dir, e))
}

/// Gives the finished folder its name. One that has it already is set aside, and put back if this fails.
fn place(disk: &dyn Disk, root: &Path, name: &str) -> Result<()> {
    let (new, unfinished, aside) = (root.join(name), part(root, name), old(root, name));
    let replaces = exists(&new);
    if replaces {
        disk.rename(&new, &aside).map_err(|e| Error::io(&new, e))?;
    }
    let renamed = disk.rename(&unfinished, &new);
    let placed = match &renamed {
        Ok(()) => disk.sync_dir(root),
        Err(_) => Ok(()),
    };
    if renamed.is_ok() && placed.is_err() {
        lenient(disk.rename(&new, &unfinished).map_err(|e| Error::io(&new, e)));
    }
    let result = renamed.and(placed).map_err(|e| Error::io(&new, e));
    if result.is_err() && replaces && !exists(&new) {
        lenient(disk.rename(&aside, &new).map_err(|e| Error::io(&aside, e)));
    }
    result
}

/// Lets `pointer` point to the folder `name` beside it, from one moment to the next.
fn point(disk: &dyn Disk, root: &Path, pointer: &str, name: &str) -> Result<()> {
    let (link, unfinished, aside) = (root.join(pointer), part(root, pointer), old(root, pointer));
    let made = match disk.symlink(Path::new(name), &unfinished) {
        // Not every file system has links, and not everyone may make them.
        Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            write_file(disk, &unfinished, |w| writeln!(w, "{name}")).map(|_| ())
        }
        other => other.map_err(|e| Error::io(&link, e)),
    };
    // A copy that followed links has a folder here, over which no link can be renamed.
    let folder = link.symlink_metadata().is_ok_and(|m| m.is_dir());
    let moved = made.and_then(|()| {
        if folder {
            disk.rename(&link, &aside).map_err(|e| Error::io(&link, e))?;
        }
        disk.rename(&unfinished, &link).map_err(|e| Error::io(&link, e))
    });
    if moved.is_err() {
        lenient(remove(disk, &unfinished));
        if folder && !exists(&link) {
            lenient(disk.rename(&aside, &link).map_err(|e| Error::io(&aside, e)));
        }
    } else if folder {
        lenient(remove(disk, &aside));
    }
    moved
}

/// Removes the steps before the newest `keep` up to `step`. A folder loses its name first: what has a name is whole.
fn prune(disk: &dyn Disk, root: &Path, step: u64, keep: usize) -> Result<()> {
    let best = target(&root.join(BEST));
    let upto: Vec<_> = steps(root)?.into_iter().filter(|(s, _)| *s <= step).collect();
    let spare = upto.len().saturating_sub(keep.max(1));
    for (s, dir) in upto.into_iter().take(spare).filter(|(_, dir)| Some(dir) != best.as_ref()) {
        let leaving = gone(root, &step_name(s));
        disk.rename(&dir, &leaving).map_err(|e| Error::io(&dir, e))?;
        remove(disk, &leaving)?;
    }
    Ok(())
}
