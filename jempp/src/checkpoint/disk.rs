//! The file system operations of saving a checkpoint.
//!
//! Invariant: [`super::save()`] changes the disk through these only, so that a test can make each of them fail.

use super::manifest::Entry;
use crate::error::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Bytes that are buffered before they are written.
const BUFFER: usize = 1 << 20;

/// File system operations; the provided methods call the operating system.
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

    /// Waits until a folder's entries are on the disk. Outside Unix, where folders cannot be opened as files, does
    /// nothing.
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

    /// Removes a folder and everything in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }
}

/// The operating system's file system.
pub(super) struct System;

impl Disk for System {}

/// Removes whatever is at `path`, if anything. Links are not followed.
pub(super) fn remove(disk: &dyn Disk, path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => disk.remove_dir_all(path),
        Ok(_) => disk.remove_file(path),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    };
    removed.map_err(|e| Error::io(path, e))
}

/// Whether there is anything at `path`, even a dangling link.
pub(super) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Writes a new file through `fill` and waits until it is on the disk. An incomplete file is left for the caller, who
/// handles its folder.
pub(super) fn write_file(
    disk: &dyn Disk,
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Entry> {
    let fail = |e| Error::io(path, e);
    let file = disk.create(path).map_err(fail)?;
    let inner = ChecksumWriter { disk, file, path: path.to_path_buf(), bytes: 0, crc: 0 };
    let mut writer = BufWriter::with_capacity(BUFFER, inner);
    let filled = fill(&mut writer).and_then(|()| writer.flush());
    // Taken apart instead of dropped, as dropping would retry the failed write.
    let (inner, _) = writer.into_parts();
    filled.map_err(fail)?;
    disk.sync(&inner.file, path).map_err(fail)?;
    Ok(Entry::new(inner.bytes, inner.crc))
}

/// Counts the bytes written and computes their checksum.
struct ChecksumWriter<'a> {
    disk: &'a dyn Disk,
    file: File,
    path: PathBuf,
    bytes: u64,
    crc: u32,
}

impl Write for ChecksumWriter<'_> {
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
