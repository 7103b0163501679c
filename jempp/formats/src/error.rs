//! The error type of this crate and of `jempp-data`.

use std::io;
use std::path::{Path, PathBuf};

/// Any failure of reading or writing data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot be used: a value out of range, or one that does not fit the data.
    #[error("{0}")]
    Config(String),
    /// Data that cannot be used: wrong shape, values out of range, too few images.
    #[error("{0}")]
    Data(String),
    /// An invalid file: truncated, corrupted or malicious.
    #[error("{0}")]
    Format(String),
    /// The operating system refused a file operation.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A violated invariant: a bug in this workspace.
    #[error("internal error: {0}")]
    Internal(String),
}

/// A result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Io`] for `path`.
    pub fn io(path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// The exit code of the command line: 1 internal, 3 configuration or data, 6 corrupt file, 7 input/output.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Internal(_) => 1,
            Self::Config(_) | Self::Data(_) => 3,
            Self::Format(_) => 6,
            Self::Io { .. } => 7,
        }
    }
}
