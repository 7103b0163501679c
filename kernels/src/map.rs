//! Files as memory: what is not looked at is not read.
//!
//! What must hold: a mapping is private and read-only, and lives as long as the bytes that it gives out.

use std::fs::File;
use std::io;

/// A file's content, as it was when it was mapped. The file must not be changed or cut short in place meanwhile;
/// replacing it by a rename, as this project does, and deleting it are harmless.
#[derive(Debug)]
pub struct Mapped(memmap2::Mmap);

impl Mapped {
    /// Maps all of `file`.
    ///
    /// # Errors
    /// What the system says; a file that is no file of bytes, such as a pipe, cannot be mapped.
    pub fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the mapping is read-only and private to this process. That nobody writes into the file while it is
        // mapped is the contract above, which the checkpoints' writer keeps: it renames whole files into place.
        unsafe { memmap2::Mmap::map(file) }.map(Self)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_outlives_the_name_of_its_file() {
        let path = std::env::temp_dir().join(format!("jempp-map-{}", std::process::id()));
        std::fs::write(&path, b"some bytes").unwrap();
        let mapped = Mapped::new(&File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(mapped.bytes(), b"some bytes");
    }
}
