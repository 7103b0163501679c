//! Reading a checkpoint.
//!
//! Invariant: nothing is returned before sizes and checksums have been compared with the manifest.

use super::manifest::{Entry, Manifest};
use super::names::{LAST, dotted, entries, step_of, steps, target};
use super::{Checkpoint, MANIFEST, MODEL, STATE, TRAINER, damaged, resolve_model};
use crate::error::{Error, Result};
use jempp_formats::container::Container;
use jempp_formats::container::format;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek};
use std::path::{Path, PathBuf};

/// Longest manifest that is read, in bytes; ours have about 500.
const LONGEST: u64 = 64 * 1024;

/// Reads the checkpoint in the folder `path`, or in the one that a pointer such as `ckpt/last` points to.
///
/// # Errors
/// [`Error::Data`] when there is no such folder; [`Error::Format`] naming the file that is missing, cut short or
/// corrupt; [`Error::Io`].
pub fn load(path: &Path) -> Result<Checkpoint> {
    let (dir, manifest) = open(path)?;
    let read = |name: &str| -> Result<Container> {
        let path = dir.join(name);
        let (file, length) = verified(&path, &manifest)?;
        Ok(format::read(&mut BufReader::new(file), length, &path)?)
    };
    let (model, trainer) = (read(MODEL)?, read(TRAINER)?);
    let path = dir.join(STATE);
    let (file, _) = verified(&path, &manifest)?;
    let state = serde_json::from_reader(BufReader::new(file)).map_err(|e| match e.io_error_kind() {
        Some(kind) => Error::io(&path, kind.into()),
        None => damaged(&path, e),
    })?;
    Ok(Checkpoint { dir, step: manifest.step, model, trainer, state })
}

/// Verifies sizes and checksums of the checkpoint in the folder (or pointer) `path` and returns its step.
///
/// # Errors
/// Those of [`load`].
pub fn verify(path: &Path) -> Result<u64> {
    let (dir, manifest) = open(path)?;
    for name in manifest.files.keys() {
        verified(&dir.join(name), &manifest)?;
    }
    Ok(manifest.step)
}

/// Opens the model file that `path` stands for (see [`resolve_model`]) and verifies its checksum if it is part of a
/// checkpoint. Returns the file's own path, and the file, positioned at its start.
///
/// # Errors
/// Those of [`resolve_model`]; [`Error::Format`] when the checkpoint is damaged; [`Error::Io`].
pub(crate) fn open_model(path: &Path) -> Result<(PathBuf, File)> {
    let path = resolve_model(path)?;
    let dir = path.parent().unwrap_or(Path::new(""));
    let file = if path.ends_with(MODEL) && dir.join(MANIFEST).exists() {
        verified(&path, &manifest_in(dir)?)?.0
    } else {
        File::open(&path).map_err(|e| Error::io(&path, e))?
    };
    Ok((path, file))
}

/// Reads the trainer's file beside the model that `path` stands for, see [`resolve_model`]; its checksum is verified.
///
/// # Errors
/// [`Error::Data`] when the model is not part of a checkpoint; otherwise as [`load`].
pub fn load_trainer(path: &Path) -> Result<Container> {
    let model = resolve_model(path)?;
    let dir = model.parent().unwrap_or(Path::new(""));
    if !model.ends_with(MODEL) || !dir.join(MANIFEST).exists() {
        return Err(Error::Data(format!(
            "{}: only a model, without a checkpoint's {TRAINER} next to it; give a run folder or a checkpoint folder",
            model.display()
        )));
    }
    let path = dir.join(TRAINER);
    let (file, length) = verified(&path, &manifest_in(dir)?)?;
    Ok(format::read(&mut BufReader::new(file), length, &path)?)
}

/// Reads the checkpoint that `root/last` points to (`root` is a run's `ckpt`). When it is damaged, reads the newest
/// earlier one that is intact, then any other; also returns a warning for the user about each problem on the way.
///
/// # Errors
/// [`Error::Data`] when there is no checkpoint at all; [`Error::Format`] when all are damaged.
pub fn load_last(root: &Path) -> Result<(Checkpoint, Vec<String>)> {
    let last = target(&root.join(LAST));
    let candidates = candidates(root, last.as_deref())?;
    if candidates.is_empty() && last.is_none() {
        return Err(Error::Data(format!("{}: there is no checkpoint", root.display())));
    }
    let mut warnings = Vec::new();
    if last.is_none() {
        warnings.push(format!("{}: missing, or not a pointer to a checkpoint", root.join(LAST).display()));
    }
    for dir in last.iter().chain(candidates.iter().filter(|c| Some(*c) != last.as_ref())) {
        match load(dir) {
            Ok(found) => {
                if !warnings.is_empty() {
                    warnings.push(format!("using {} (step {}) instead", found.dir.display(), found.step));
                }
                return Ok((found, warnings));
            }
            Err(e) => warnings.push(e.to_string()),
        }
    }
    Err(damaged(root, format!("no checkpoint is whole: {}", warnings.join("; "))))
}

/// The folders that [`load_last`] tries after `last`: first its own and earlier steps, newest first, then later ones. A
/// folder that a save had set aside when it was killed comes right after the step of the same number.
fn candidates(root: &Path, last: Option<&Path>) -> Result<Vec<PathBuf>> {
    let mut found: Vec<_> = steps(root)?.into_iter().map(|(step, dir)| (step, false, dir)).collect();
    for file in entries(root)? {
        if let Some((name, "old")) = dotted(&file)
            && let Some(step) = step_of(name)
        {
            found.push((step, true, root.join(&file)));
        }
    }
    let limit = last.and_then(|l| step_of(l.file_name()?.to_str()?)).unwrap_or(u64::MAX);
    found.sort_by_key(|(step, aside, _)| (*step > limit, u64::MAX - step, *aside));
    Ok(found.into_iter().map(|(_, _, dir)| dir).collect())
}

/// The folder that `path` stands for, with its manifest.
fn open(path: &Path) -> Result<(PathBuf, Manifest)> {
    let dir = target(path).filter(|d| d.is_dir());
    let dir = dir.ok_or_else(|| Error::Data(format!("{}: there is no checkpoint folder", path.display())))?;
    let manifest = manifest_in(&dir)?;
    Ok((dir, manifest))
}

fn manifest_in(dir: &Path) -> Result<Manifest> {
    let path = dir.join(MANIFEST);
    let mut bytes = Vec::new();
    let (file, _) = open_file(&path)?;
    file.take(LONGEST).read_to_end(&mut bytes).map_err(|e| Error::io(&path, e))?;
    let manifest = Manifest::parse(&bytes).map_err(|why| damaged(&path, why))?;
    let named = manifest.files.keys().map(String::as_str);
    if !named.eq([MODEL, STATE, TRAINER]) {
        return Err(damaged(&path, format!("it must name {MODEL}, {STATE} and {TRAINER}")));
    }
    Ok(manifest)
}

fn open_file(path: &Path) -> Result<(File, u64)> {
    let missing = "missing; the checkpoint is incomplete";
    let file = File::open(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => damaged(path, missing),
        _ => Error::io(path, e),
    })?;
    let about = file.metadata().map_err(|e| Error::io(path, e))?;
    if !about.is_file() {
        return Err(damaged(path, "not a file"));
    }
    Ok((file, about.len()))
}

/// Opens a file of a checkpoint after verifying its size and checksum; it is positioned at its start.
fn verified(path: &Path, manifest: &Manifest) -> Result<(File, u64)> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let Some(expected) = manifest.files.get(name) else {
        return Err(damaged(path, "its manifest does not name it"));
    };
    let (mut file, length) = open_file(path)?;
    if length != expected.bytes {
        let what = if length < expected.bytes { "cut short" } else { "too long" };
        return Err(damaged(
            path,
            format!("{what}: it has {length} bytes, its manifest says {}", expected.bytes),
        ));
    }
    let fail = |e| Error::io(path, e);
    let mut crc = 0;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(fail(e)),
        };
        crc = crc32c::crc32c_append(crc, &buffer[..n]);
    }
    let found = Entry::new(length, crc);
    if found != *expected {
        let (found, expected) = (found.crc32c, &expected.crc32c);
        return Err(damaged(path, format!("corrupt: its checksum is {found}, its manifest says {expected}")));
    }
    file.rewind().map_err(fail)?;
    Ok((file, length))
}
