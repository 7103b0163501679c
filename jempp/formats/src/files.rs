//! Writing files so that a reader sees the old one or the whole new one, never a part; hints about paths that lead
//! nowhere.

use crate::edit::distance;
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

/// Where the contents of a file go while it is written.
pub trait Sink: Write + Seek {}
impl<T: Write + Seek> Sink for T {}

/// Writes a file through `fill`: beside it under another name, then fsync, then renamed over `path`.
///
/// An existing file is replaced. When anything fails, `path` is as it was and the partial file is removed.
///
/// # Errors
/// [`Error::Io`] when the folder does not exist, cannot be written or is full, or when `fill` fails.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut dyn Sink) -> io::Result<()>) -> Result<()> {
    let folder = folder_of(path);
    let fail = |source| Error::io(path, source);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".jempp-").suffix(".part");
    // A temporary file is private to its owner by default; this one becomes an ordinary file (less the umask).
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

/// The folder that holds `path` (`.` for a bare name).
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Makes a rename in `folder` durable. Elsewhere than on Unix a folder cannot be opened as a file.
fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io(folder, e))?;
    }
    Ok(())
}

/// The error of a file that could not be opened: [`Error::Data`] with a hint where it is not there.
pub fn missing_or(path: &Path, why: io::Error) -> Error {
    match why.kind() {
        io::ErrorKind::NotFound => {
            Error::Data(format!("{}: there is no such file{}", path.display(), hint(path)))
        }
        _ => Error::io(path, why),
    }
}

/// Most names that a message offers.
const MOST: usize = 5;

/// What to add to the message that nothing is at `path`: where it ends, and what is there that has a similar name.
pub fn hint(path: &Path) -> String {
    if let Ok(to) = fs::read_link(path) {
        return format!("; it is a link to {}, which does not exist", to.display());
    }
    // The first part of the path that is not there is where the user went wrong.
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

/// Names in `parent` like `name`, the likest first.
fn close_names(parent: &Path, name: &str) -> Vec<String> {
    let most = 2.max(name.chars().count() / 3);
    // A name that is no text, or cannot be read, is none to offer.
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
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
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
