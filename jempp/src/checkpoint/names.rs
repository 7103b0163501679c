//! Names inside `ckpt`, and the targets of `last` and `best`.
//!
//! Invariant: a name read from a file is used only if it is exactly a `step_N`; no file can point out of its folder.

use crate::error::{Error, Result};
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Name of the pointer to the newest checkpoint.
pub(super) const LAST: &str = "last";
/// Name of the pointer to the best checkpoint.
pub(super) const BEST: &str = "best";

/// Name of the folder of a step.
pub(super) fn step_name(step: u64) -> String {
    format!("step_{step}")
}

/// The step of the folder `name`.
pub(super) fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step_")?.parse().ok()?;
    (step_name(step) == name).then_some(step)
}

/// Path of `name` while it is being written.
pub(super) fn part(root: &Path, name: &str) -> PathBuf {
    root.join(format!(".{name}.part"))
}

/// Path of the old `name` until the new one has replaced it.
pub(super) fn old(root: &Path, name: &str) -> PathBuf {
    root.join(format!(".{name}.old"))
}

/// Path of `name` while it is being deleted.
pub(super) fn gone(root: &Path, name: &str) -> PathBuf {
    root.join(format!(".{name}.gone"))
}

/// Splits one of the dotted names above into `name` and its ending.
pub(super) fn dotted(file: &str) -> Option<(&str, &str)> {
    let (name, ending) = file.strip_prefix('.')?.rsplit_once('.')?;
    let ours = name == LAST || name == BEST || step_of(name).is_some();
    (ours && matches!(ending, "part" | "old" | "gone")).then_some((name, ending))
}

/// Names in a folder; none when there is no folder.
pub(super) fn entries(root: &Path) -> Result<Vec<String>> {
    let fail = |e| Error::io(root, e);
    let list = match fs::read_dir(root) {
        Ok(list) => list,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(fail(e)),
    };
    let mut names = Vec::new();
    for entry in list {
        // Names that are not UTF-8 are not ours.
        names.extend(entry.map_err(fail)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// The checkpoints in the folder `root` (a run's `ckpt`) by step, lowest first; none when there is no such folder.
/// They are listed, not read.
///
/// # Errors
/// [`Error::Io`].
pub fn steps(root: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found: Vec<_> = entries(root)?.iter().filter_map(|n| Some((step_of(n)?, root.join(n)))).collect();
    found.sort();
    Ok(found)
}

/// The folder that the pointer (or folder) at `path` stands for, which need not exist; `None` when there is nothing at
/// `path` or it is not a pointer.
pub(super) fn target(path: &Path) -> Option<PathBuf> {
    let beside = |name: &str| path.parent().unwrap_or(Path::new("")).join(name);
    let about = fs::symlink_metadata(path).ok()?;
    if about.is_dir() {
        return Some(path.to_path_buf());
    }
    if about.is_symlink() {
        let to = fs::read_link(path).ok()?;
        // A link that the user made is left to the system to follow.
        return Some(match to.to_str() {
            Some(name) if step_of(name).is_some() => beside(name),
            _ => path.to_path_buf(),
        });
    }
    let mut text = String::new();
    fs::File::open(path).ok()?.take(64).read_to_string(&mut text).ok()?;
    let name = text.trim_end();
    step_of(name).map(|_| beside(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_are_steps() {
        assert_eq!(step_of("step_0"), Some(0));
        assert_eq!(step_of(&step_name(u64::MAX)), Some(u64::MAX));
        for name in ["step_", "step_01", "step_+1", "step_1/..", "step_18446744073709551616", "Step_1", ""] {
            assert_eq!(step_of(name), None, "{name}");
        }
        assert_eq!(dotted(".step_4.old"), Some(("step_4", "old")));
        assert_eq!(dotted(".last.part"), Some(("last", "part")));
        for name in ["step_4.old", ".mine.old", ".step_4.txt", ".step_4", ".old", "..old"] {
            assert_eq!(dotted(name), None, "{name}");
        }
    }

    #[test]
    fn a_pointer_cannot_lead_out_of_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let last = dir.path().join(LAST);
        assert_eq!(target(&last), None);
        for text in ["../../etc", "/etc", "", "step_1/../..", "step_1\nstep_2"] {
            fs::write(&last, text).unwrap();
            assert_eq!(target(&last), None, "{text}");
        }
        fs::write(&last, [0xff; 100]).unwrap();
        assert_eq!(target(&last), None);
        fs::write(&last, "step_12\r\n").unwrap();
        assert_eq!(target(&last), Some(dir.path().join("step_12")));
    }
}
