//! Memory-mapped files.
//!
//! Invariant: a mapping is read-only, and its file is never written in place.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// A memory-mapped file: its bytes are read from disk when they are accessed.
#[derive(Debug)]
pub struct Mmap(memmap2::Mmap);

impl Mmap {
    /// Maps a whole file. The caller promises that the file is only ever replaced or removed, never overwritten or
    /// truncated in place; this holds for files that are written under another name and renamed.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the bytes do not change while the mapping exists, as the caller promises; a process that breaks the
        // promise from outside could just as well write to this process's memory.
        unsafe { memmap2::Mmap::map(file) }.map(Self)
    }
}

impl Deref for Mmap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests;
