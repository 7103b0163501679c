//! Opening shared libraries and reading what they export.
//!
//! What must hold: a handle is never closed, since CUDA's libraries start threads and register handlers, and other
//! libraries find them by name as long as the process lives.

use std::ffi::{OsStr, c_void};
use std::fs;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// An open library, which is never closed.
#[derive(Debug)]
pub(crate) struct Handle(ManuallyDrop<Library>);

impl Handle {
    /// Opens a library by its path or by name, so that later openings by its SONAME give this copy.
    ///
    /// # Errors
    /// What the loader says.
    pub(crate) fn open(name: impl AsRef<OsStr>) -> Result<Self, String> {
        // SAFETY: opening runs the library's initialisers. The names are those of NVIDIA's libraries, whose
        // initialisers are safe to run in a process that opens them this way; that a file of such a name is NVIDIA's is
        // up to whoever set up the search path, as for every library of the system.
        let opened = unsafe { Library::open(Some(name.as_ref()), RTLD_NOW | RTLD_GLOBAL) };
        opened.map(|library| Self(ManuallyDrop::new(library))).map_err(|error| error.to_string())
    }

    /// The address of a symbol, if the library exports it.
    pub(crate) fn address(&self, symbol: &str) -> Option<*mut c_void> {
        // SAFETY: a symbol is read as an address of unknown type and not dereferenced; the library stays open.
        let found = unsafe { self.0.get::<*mut c_void>(symbol.as_bytes()) }.ok()?;
        Some(*found).filter(|address| !address.is_null())
    }

    /// A symbol as the function type `F`.
    ///
    /// # Safety
    /// The symbol must be a function of type `F`.
    pub(crate) unsafe fn function<F: Copy>(&self, symbol: &str) -> Option<F> {
        self.address(symbol)?;
        // SAFETY: the caller guarantees the type, and the library is never closed, so the copy stays good.
        unsafe { self.0.get::<F>(symbol.as_bytes()) }.ok().map(|f| *f)
    }

    /// The file that a symbol of the library was mapped from.
    pub(crate) fn file_of(&self, symbol: &str) -> Option<PathBuf> {
        let address = self.address(symbol)? as usize;
        mapped_file(&fs::read_to_string("/proc/self/maps").ok()?, address)
    }
}

/// The file at `address` by the kernel's list of mappings.
fn mapped_file(maps: &str, address: usize) -> Option<PathBuf> {
    maps.lines().find_map(|line| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
        let path = line.get(line.find('/')?..)?;
        range.contains(&address).then(|| Path::new(path).to_path_buf())
    })
}

#[cfg(test)]
mod tests;
