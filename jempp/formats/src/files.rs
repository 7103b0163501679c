//! Atomic file replacement, hints for paths that do not exist, and the cache folder.

use crate::edit::distance;
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

pub use kernels::cache_folder::cache_folder;

/// The destination of a file's content while it is written.
pub trait Sink: Write + Seek {}
impl<T: Write + Seek> Sink for T {}

/// Writes a file atomically: `fill` writes a temporary file in the same folder, which is synced and renamed to `path`.
///
/// An existing file is replaced. If anything fails, `path` is unchanged and the temporary file is removed.
///
/// # Errors
/// [`Error::Io`] when the folder does not exist, cannot be written or is full, or when `fill` fails.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut dyn Sink) -> io::Result<()>) -> Result<()> {
    let folder = folder_of(path);
    let fail = |source| Error::io(path, source);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".jempp-").suffix(".part");
    // Temporary files are private to their owner by default; this one gets the permissions of ordinary files.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut part = builder.tempfile_in(&folder).map_err(fail)?;
    let mut writer = BufWriter::new(part.as_file_mut());
    fill(&mut writer).map_err(fail)?;
    writer.flush().map_err(fail)?;
    drop(writer);
    part.as_file().sync_all().map_err(fail)?;
    part.persist(path).map_err(|e| fail(e.error))?;
    sync_folder(&folder)
}

/// The folder that contains `path` (`.` for a bare name).
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Makes a rename in `folder` durable. Only on Unix can a folder be opened for that.
fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io(folder, e))?;
    }
    Ok(())
}

/// The error of a file that could not be opened: [`Error::Data`] with a hint if it does not exist, else [`Error::Io`].
pub fn missing_or(path: &Path, why: io::Error) -> Error {
    match why.kind() {
        io::ErrorKind::NotFound => {
            Error::Data(format!("{}: there is no such file{}", path.display(), hint(path)))
        }
        _ => Error::io(path, why),
    }
}

/// A path in which `~/` at the start stands for the home folder, as in values that no shell has expanded. A folder that is
/// really called `~` is kept.
pub fn expand_home(path: &Path) -> PathBuf {
    let home = std::env::var_os("HOME").filter(|h| !h.is_empty());
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) if !Path::new("~").exists() => Path::new(&home).join(rest),
        _ => path.to_path_buf(),
    }
}

/// Largest number of names that a message suggests.
const MOST: usize = 5;

/// A hint to append to the message that `path` does not exist: its first component that is missing, and similar names
/// beside it. Empty if there is nothing to add; else it starts with `; `.
pub fn hint(path: &Path) -> String {
    if let Ok(to) = fs::read_link(path) {
        return format!("; it is a link to {}, which does not exist", to.display());
    }
    // The first component that does not exist is where the user went wrong.
    let parts: Vec<&Path> = path.ancestors().collect();
    let gone = parts.into_iter().rev().find(|p| *p != Path::new("") && !p.exists());
    let Some((gone, name)) = gone.and_then(|p| Some((p, p.file_name()?.to_string_lossy()))) else {
        return String::new();
    };
    let parent = folder_of(gone);
    let near = close_names(&parent, &name);
    if !near.is_empty() {
        format!("; in {} there is {}", parent.display(), near.join(", "))
    } else if gone != path {
        format!("; {} has no {name}", parent.display())
    } else {
        String::new()
    }
}

/// Names in `parent` that are similar to `name`, the most similar first.
fn close_names(parent: &Path, name: &str) -> Vec<String> {
    let most = 2.max(name.chars().count() / 3);
    // Names that are not UTF-8 or cannot be read are not suggested.
    let names = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut near: Vec<(usize, String)> = names
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|n| !n.starts_with('.'))
        .map(|n| (distance(name, &n), n))
        .filter(|(d, n)| *d <= most || n.starts_with(name))
        .collect();
    near.sort();
    near.into_iter().take(MOST).map(|(_, n)| n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write_atomic(&path, |w| w.write_all(b"one")).unwrap();
        let e = write_atomic(&path, |w| {
            w.write_all(b"two")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert_eq!(e.unwrap_err().exit_code(), 7);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_atomic(&path, |w| w.write_all(b"three")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let e = write_atomic(Path::new("/no/such/folder/a"), |_| Ok(())).unwrap_err();
        assert!(e.to_string().starts_with("/no/such/folder/a: "), "{e}");
    }
}
