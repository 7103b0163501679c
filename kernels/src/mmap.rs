//! Files as memory.
//!
//! Invariant: a map is read only, and of a file that nobody writes in place.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// The bytes of a file, brought into memory when they are looked at.
#[derive(Debug)]
pub struct Mmap(memmap2::Mmap);

impl Mmap {
    /// Maps a whole file. The caller promises that the file is only ever replaced or removed, never written or cut
    /// short where it lies, as is so for files that are written elsewhere and renamed.
    ///
    /// # Errors
    /// If the system cannot map it.
    pub fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the bytes do not change while the map lives, as this function's caller promises; a process that
        // breaks the promise from outside could as well write into this one's memory.
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
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_map_is_what_is_in_the_file() {
        let path = std::env::temp_dir().join(format!("jempp-map-{}", std::process::id()));
        File::create(&path).unwrap().write_all(b"some bytes").unwrap();
        let map = Mmap::map(&File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&*map, b"some bytes");
    }
}
