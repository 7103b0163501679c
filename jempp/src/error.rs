//! The error type of this crate, and the exit code of each kind of error.
//!
//! Invariant: the exit codes are part of the command line's interface and never change their meaning.

use std::io;
use std::path::{Path, PathBuf};

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An invalid configuration: an unknown key, a wrong type, a value out of range.
    #[error("{0}")]
    Config(String),
    /// Unusable data: wrong shape, values out of range, too few images, nothing at a path.
    #[error("{0}")]
    Data(String),
    /// A file whose bytes violate its format: truncated, corrupted or malicious.
    #[error("{0}")]
    Format(String),
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A compute device is not available, or failed.
    #[error("{0}")]
    Device(String),
    /// Out of memory; the message says what uses it, and what would fit.
    #[error("{0}")]
    OutOfMemory(String),
    /// Training diverged and cannot recover.
    #[error("{0}")]
    Diverged(String),
    /// Stopped at the caller's request.
    #[error("stopped on request")]
    Cancelled,
    /// An explicitly named output exists already; nothing is overwritten silently.
    #[error("{} exists already; choose another path or remove it", .0.display())]
    Exists(PathBuf),
    /// The engine rejected a program or its data: a bug in this crate, unless memory ran out.
    #[error("engine: {0}")]
    Engine(#[from] engine::Error),
    /// A violated invariant: a bug in this crate.
    #[error("internal error: {0}")]
    Internal(String),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<jempp_formats::Error> for Error {
    fn from(e: jempp_formats::Error) -> Self {
        use jempp_formats::Error as E;
        match e {
            E::Config(why) => Self::Config(why),
            E::Data(why) => Self::Data(why),
            E::Format(why) => Self::Format(why),
            E::Io { path, source } => Self::Io { path, source },
            E::Internal(why) => Self::Internal(why),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl Error {
    /// An [`Error::Io`] about `path`.
    pub fn io(path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// The exit code of the command line: 1 internal, 3 configuration or data, 4 device or memory, 5 diverged, 6
    /// corrupt file, 7 input/output, 130 stopped. (0, success, and 2, wrong usage, are not errors of this crate.)
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Engine(engine::Error::OutOfMemory(_)) | Self::OutOfMemory(_) => 4,
            Self::Internal(_) | Self::Engine(_) => 1,
            Self::Config(_) | Self::Data(_) | Self::Exists(_) => 3,
            Self::Device(_) => 4,
            Self::Diverged(_) => 5,
            Self::Format(_) => 6,
            Self::Io { .. } => 7,
            Self::Cancelled => 130,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_as_promised() {
        let text = || "x".to_string();
        let cases = [
            (Error::Internal(text()), 1),
            (Error::Config(text()), 3),
            (Error::Data(text()), 3),
            (Error::Exists("runs/a".into()), 3),
            (Error::Device(text()), 4),
            (Error::OutOfMemory(text()), 4),
            (Error::Diverged(text()), 5),
            (Error::Format(text()), 6),
            (Error::io("a", io::Error::from(io::ErrorKind::StorageFull)), 7),
            (Error::Cancelled, 130),
        ];
        for (error, code) in cases {
            assert_eq!(error.exit_code(), code, "{error}");
        }
    }

    #[test]
    fn messages_name_the_path() {
        let e = Error::io("some/where", io::Error::new(io::ErrorKind::NotFound, "gone"));
        assert_eq!(e.to_string(), "some/where: gone");
        assert!(Error::Exists("runs/a".into()).to_string().contains("runs/a"));
    }
}
