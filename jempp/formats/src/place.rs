//! File locations for error messages.

use crate::error::{Error, Result};
use crate::unpack::Unbounded;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// A file or a member of an archive, as error messages name it.
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

    /// A member of this file.
    pub fn member(&self, name: &str) -> Self {
        let name = name.chars().take(80).flat_map(char::escape_default).collect();
        Self { path: self.path.clone(), member: Some(name) }
    }

    /// An [`Error::Format`]: the bytes are invalid.
    pub fn damaged(&self, why: impl Display) -> Error {
        Error::Format(self.says(why))
    }

    /// An [`Error::Data`]: the data are valid but cannot be used.
    pub fn unfit(&self, why: impl Display) -> Error {
        Error::Data(self.says(why))
    }

    /// The error of a failed read: [`Error::Data`] if it unpacks to more than is allowed, [`Error::Format`] if the bytes are at
    /// fault, else [`Error::Io`].
    pub fn read_error(&self, e: io::Error) -> Error {
        if e.get_ref().is_some_and(|inner| inner.is::<Unbounded>()) {
            return self.unfit(e);
        }
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

/// A name from a file for use in a message: escaped and at most 80 characters long.
pub fn shown(name: &str) -> String {
    let mut out: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if name.chars().nth(80).is_some() {
        out.push('…');
    }
    out
}

/// Checks that a reader is at its end.
///
/// # Errors
/// [`Error::Format`] when bytes follow; [`Error::Io`].
pub fn at_end(place: &Place, from: &mut impl io::Read) -> Result<()> {
    match from.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(place.damaged("unexpected bytes follow its data")),
        Err(e) => Err(place.read_error(e)),
    }
}
