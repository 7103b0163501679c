//! Where something is read, for messages.

use crate::{Error, Result};
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Where something is read, for messages: a file, or a member of it.
#[derive(Clone, Debug)]
pub struct Place {
    path: PathBuf,
    member: Option<String>,
}

impl Place {
    /// A file.
    pub fn file(path: &Path) -> Self {
        Self { path: path.to_path_buf(), member: None }
    }

    /// A member of it.
    pub fn member(&self, name: &str) -> Self {
        let name = name.chars().take(80).flat_map(char::escape_default).collect();
        Self { path: self.path.clone(), member: Some(name) }
    }

    /// Bytes that are not what the format says.
    pub fn damaged(&self, why: impl Display) -> Error {
        Error::Format(self.says(why))
    }

    /// Data that cannot be used.
    pub fn unfit(&self, why: impl Display) -> Error {
        Error::Data(self.says(why))
    }

    /// What reading it ended with: the system's fault, or that of the bytes.
    pub fn read_error(&self, e: io::Error) -> Error {
        match e.kind() {
            ErrorKind::UnexpectedEof => self.damaged("it is cut short"),
            ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::Other => self.damaged(e),
            _ => Error::io(&self.path, e),
        }
    }

    fn says(&self, why: impl Display) -> String {
        let path = self.path.display();
        match &self.member {
            Some(member) => format!("{path}, member `{member}`: {why}"),
            None => format!("{path}: {why}"),
        }
    }
}

/// Checks that a reader is at its end.
///
/// # Errors
/// [`Error::Format`] when bytes follow; [`Error::Io`].
pub fn at_end(place: &Place, from: &mut impl io::Read) -> Result<()> {
    match from.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(place.damaged("bytes follow its data")),
        Err(e) => Err(place.read_error(e)),
    }
}
