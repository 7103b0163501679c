//! The operations by which a checkpoint changes the disk.
//!
//! Invariant: [`super::save()`] touches the disk through these only, so that a test can make each of them fail.

use super::manifest::Entry;
use crate::error::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 20;

/// The operations, each as the system does it.
pub(super) trait Disk {
    /// Creates a folder and those above it.
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    /// Creates a folder that must not exist.
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    /// Creates a file that must not exist.
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(path)
    }

    /// Appends to a file that [`Disk::create`] made at `_path`.
    fn write(&self, file: &mut File, _path: &Path, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    /// Waits until a file's bytes are on the disk.
    fn sync(&self, file: &File, _path: &Path) -> io::Result<()> {
        file.sync_all()
    }

    /// Waits until a folder's entries are on the disk. Elsewhere than on Unix a folder cannot be opened as a file.
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
    }

    /// Renames a file, link or folder, replacing a file or link.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Creates a symbolic link to a folder.
    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        #[cfg(unix)]
        return std::os::unix::fs::symlink(target, link);
        #[cfg(not(unix))]
        {
            let _ = (target, link);
            Err(ErrorKind::Unsupported.into())
        }
    }

    /// Removes a file or link.
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Removes a folder and all that is in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }
}

/// The system's own disk.
pub(super) struct System;

impl Disk for System {}

/// Removes whatever is at `path`, if anything is. Links are not followed.
pub(super) fn remove(disk: &dyn Disk, path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => disk.remove_dir_all(path),
        Ok(_) => disk.remove_file(path),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    };
    removed.map_err(|e| Error::io(path, e))
}

/// Whether anything is at `path`, be it a link to nowhere.
pub(super) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Writes a new file through `fill` and waits until it is on the disk. A file that could not be finished stays: the
/// caller knows what to do with its folder.
pub(super) fn write_file(
    disk: &dyn Disk,
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Entry> {
    let fail = |e| Error::io(path, e);
    let file = disk.create(path).map_err(fail)?;
    let tally = Tally { disk, file, path: path.to_path_buf(), bytes: 0, crc: 0 };
    let mut writer = BufWriter::with_capacity(BUFFER, tally);
    let filled = fill(&mut writer).and_then(|()| writer.flush());
    // Taken apart and not dropped: a drop would try once more to write what could not be written.
    let (tally, _) = writer.into_parts();
    filled.map_err(fail)?;
    disk.sync(&tally.file, path).map_err(fail)?;
    Ok(Entry::new(tally.bytes, tally.crc))
}

/// Counts and sums what is written.
struct Tally<'a> {
    disk: &'a dyn Disk,
    file: File,
    path: PathBuf,
    bytes: u64,
    crc: u32,
}

impl Write for Tally<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.write(&mut self.file, &self.path, bytes)?;
        self.bytes += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
