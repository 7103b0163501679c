//! Writing a checkpoint.
//!
//! Invariants: a step's folder is written under a temporary name, and every file and the folder are synced before it is
//! renamed; a folder that it replaces is set aside and not removed until the rename is on the disk; `last` moves after
//! that, and only then are older checkpoints removed. An error on the way restores the old state and removes incomplete
//! files.

use super::disk::{Disk, System, exists, remove, write_file};
use super::manifest::Manifest;
use super::names::{BEST, LAST, dotted, entries, gone, old, part, step_name, step_of, steps, target};
use super::{MANIFEST, MODEL, STATE, TRAINER};
use crate::error::{Error, Result};
use jempp_formats::container::Container;
use jempp_formats::container::format::Plan;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Saves a checkpoint as `root/step_N` (`root` is a run's `ckpt`, created if necessary) and points `last` to it, and
/// `best` too if `best` is set. A checkpoint of the same step is replaced. Returns the checkpoint's folder.
///
/// Of the steps up to this one, the newest `keep` (at least this one) are kept, and the one that `best` points to;
/// later steps, left from before a run was resumed at an earlier one, are kept until the run reaches them. Failing to
/// remove an old checkpoint is only logged.
///
/// # Errors
/// [`Error::Io`], for instance when the disk is full: what `last` and `best` point to can still be loaded. When the new
/// checkpoint was completed and only a pointer could not be moved, it is kept. [`Error::Internal`] when a container is
/// inconsistent, without changing the disk.
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

/// Removes the checkpoints of steps after `step` in `root`, and the pointers to them; none if there is no such folder. A caller
/// that goes back to an earlier state then leaves none that it has abandoned.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn remove_after(root: &Path, step: u64) -> Result<()> {
    for pointer in [LAST, BEST] {
        let path = root.join(pointer);
        let later = |dir: &PathBuf| {
            let name = dir.file_name().and_then(|n| n.to_str());
            name.and_then(step_of).is_some_and(|s| s > step)
        };
        if target(&path).is_some_and(|dir| later(&dir)) {
            remove(&System, &path)?;
        }
    }
    steps(root)?
        .into_iter()
        .filter(|(s, _)| *s > step)
        .try_for_each(|(s, dir)| discard(&System, root, s, &dir))
}

/// Removes the checkpoint of step `s` in the folder `dir`, which is renamed before it is deleted, as a folder named `step_N`
/// must be complete.
fn discard(disk: &dyn Disk, root: &Path, s: u64, dir: &Path) -> Result<()> {
    let leaving = gone(root, &step_name(s));
    disk.rename(dir, &leaving).map_err(|e| Error::io(dir, e))?;
    remove(disk, &leaving)
}

/// A checkpoint ready to be written.
pub(super) struct Content<'a> {
    step: u64,
    model: Plan<'a>,
    trainer: Plan<'a>,
    state: Vec<u8>,
}

impl<'a> Content<'a> {
    pub(super) fn new(
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

/// [`save`], with any [`Disk`].
pub(super) fn save_on(
    disk: &dyn Disk,
    root: &Path,
    content: &Content<'_>,
    best: bool,
    keep: usize,
) -> Result<PathBuf> {
    let name = step_name(content.step);
    create_root(disk, root)?;
    clean_up(disk, root)?;
    let unfinished = part(root, &name);
    let placed = write_folder(disk, &unfinished, content).and_then(|()| place(disk, root, &name));
    if let Err(e) = placed {
        log_failure(remove(disk, &unfinished));
        return Err(e);
    }
    let mut pointed = point(disk, root, LAST, &name);
    if best && pointed.is_ok() {
        pointed = point(disk, root, BEST, &name);
    }
    let pointed = pointed.and_then(|()| disk.sync_dir(root).map_err(|e| Error::io(root, e)));
    // The new folder is on the disk, whether or not the pointers could be moved.
    log_failure(remove(disk, &old(root, &name)));
    pointed?;
    log_failure(prune(disk, root, content.step, keep));
    Ok(root.join(name))
}

/// Logs a failure to clean up, which is harmless: the next save tries again.
fn log_failure(result: Result<()>) {
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

/// Removes what an interrupted save has left, and restores what it had set aside.
fn clean_up(disk: &dyn Disk, root: &Path) -> Result<()> {
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

/// Renames the finished folder to its final name. A folder of that name is set aside, and restored if this fails.
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
        log_failure(disk.rename(&new, &unfinished).map_err(|e| Error::io(&new, e)));
    }
    let result = renamed.and(placed).map_err(|e| Error::io(&new, e));
    if result.is_err() && replaces && !exists(&new) {
        log_failure(disk.rename(&aside, &new).map_err(|e| Error::io(&aside, e)));
    }
    result
}

/// Makes `pointer` point to the folder `name` next to it, atomically.
fn point(disk: &dyn Disk, root: &Path, pointer: &str, name: &str) -> Result<()> {
    let (link, unfinished, aside) = (root.join(pointer), part(root, pointer), old(root, pointer));
    let made = match disk.symlink(Path::new(name), &unfinished) {
        // Some file systems have no links, and some users are not allowed to create them.
        Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            write_file(disk, &unfinished, |w| writeln!(w, "{name}")).map(|_| ())
        }
        other => other.map_err(|e| Error::io(&link, e)),
    };
    // In a copy that followed links this is a folder, which a link cannot replace by renaming.
    let folder = link.symlink_metadata().is_ok_and(|m| m.is_dir());
    let moved = made.and_then(|()| {
        if folder {
            disk.rename(&link, &aside).map_err(|e| Error::io(&link, e))?;
        }
        disk.rename(&unfinished, &link).map_err(|e| Error::io(&link, e))
    });
    if moved.is_err() {
        log_failure(remove(disk, &unfinished));
        if folder && !exists(&link) {
            log_failure(disk.rename(&aside, &link).map_err(|e| Error::io(&aside, e)));
        }
    } else if folder {
        log_failure(remove(disk, &aside));
    }
    moved
}

/// Removes the steps up to `step` except the newest `keep`.
fn prune(disk: &dyn Disk, root: &Path, step: u64, keep: usize) -> Result<()> {
    let best = target(&root.join(BEST));
    let upto: Vec<_> = steps(root)?.into_iter().filter(|(s, _)| *s <= step).collect();
    let spare = upto.len().saturating_sub(keep.max(1));
    for (s, dir) in upto.into_iter().take(spare).filter(|(_, dir)| Some(dir) != best.as_ref()) {
        discard(disk, root, s, &dir)?;
    }
    Ok(())
}
