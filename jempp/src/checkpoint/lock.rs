//! The lock of a run folder: one process at a time trains into it and writes its checkpoints.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

/// The lock of a folder, held against other processes while this value lives.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: Option<File>,
}

impl FolderLock {
    /// Locks the existing folder `path` through its file `lock`. The operating system releases the lock however the process
    /// ends. On file systems without locks nothing is locked.
    ///
    /// # Errors
    /// [`Error::Data`] if another process holds the lock; [`Error::Io`] if the file cannot be made.
    pub(crate) fn acquire(path: &Path) -> Result<Self> {
        let name = path.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&name);
        let file = file.map_err(|e| Error::io(&name, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(Error::Data(format!(
                "{}: another process is training into this folder; wait for it, or stop it first",
                path.display()
            ))),
            Err(TryLockError::Error(_)) => Ok(Self { _file: None }),
        }
    }
}
