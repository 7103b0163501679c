//! Named tensors with string metadata, and the safetensors files that store them.

pub mod format;
pub mod layout;
mod tensor;

#[cfg(test)]
mod tests;

pub use tensor::{Container, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::files::write_atomic;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

impl Container {
    /// Reads the safetensors file at `path`. The file is untrusted: memory stays within a small multiple of its size.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] when the file is damaged or contains types other than [`TensorData`]'s.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let about = file.metadata().map_err(|e| Error::io(path, e))?;
        if !about.is_file() {
            return Err(Error::Format(format!("{}: not a file", path.display())));
        }
        format::read(&mut BufReader::new(file), about.len(), path)
    }

    /// Reads a safetensors file from memory. Error messages name it `source`.
    ///
    /// # Errors
    /// [`Error::Format`], as for [`Container::read`].
    pub fn from_bytes(mut bytes: &[u8], source: &Path) -> Result<Self> {
        let length = bytes.len() as u64;
        format::read(&mut bytes, length, source)
    }

    /// Serialises the container as a safetensors file. Equal containers give equal bytes.
    ///
    /// # Errors
    /// [`Error::Internal`] when a shape does not match its values or a name occurs twice.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        format::Plan::new(self)?.write(&mut out).map_err(|e| Error::Internal(e.to_string()))?;
        Ok(out)
    }

    /// Writes the container to `path` atomically, replacing an existing file.
    ///
    /// # Errors
    /// [`Error::Io`], and those of [`Container::to_bytes`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let plan = format::Plan::new(self)?;
        write_atomic(path, |w| plan.write(w))
    }
}
