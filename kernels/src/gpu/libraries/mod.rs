//! CUDA's shared libraries: which there are, finding and loading them, their versions.
//!
//! What must hold: loading never panics; a library counts as found only when it opens, exports every symbol that this
//! crate calls and is new enough; the copy that is checked is the one that is used.
//!
//! cuDNN and cuBLAS are called through the copy that was opened here (`functions`), the driver and NVRTC through
//! `cudarc`, which opens them by name: then the copy that it opens is the one that is checked. So a process has one
//! cuBLAS, also where a toolkit is on the loader's path and cuDNN comes with a Python environment.
//!
//! A library found by path is opened with `RTLD_GLOBAL`, after the libraries of its folder that it depends on, so that
//! a later opening by its SONAME gives the same copy. Libraries inside a Python environment therefore work without
//! `LD_LIBRARY_PATH`.

mod functions;
mod known;
mod load;
mod search;
mod shared_object;
mod symbols;

use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::error::NoCuda;
pub(in crate::gpu) use functions::{checked, functions, incomplete};
pub use known::KNOWN;
use load::load;
pub use search::{Folder, PATH_VARIABLE, Search};
pub(crate) use shared_object::Handle;

/// One of CUDA's libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Id {
    /// The driver, which comes with the operating system's NVIDIA package.
    Driver,
    /// The run-time library. Not used, only reported.
    Runtime,
    /// The run-time compiler of kernels.
    Nvrtc,
    /// Matrix products.
    Cublas,
    /// Convolutions.
    Cudnn,
    /// Collectives between several GPUs.
    Nccl,
}

/// A library to search for: its file names, symbols and oldest supported version.
#[derive(Clone, Debug)]
pub struct Library {
    /// Which library it is.
    pub id: Id,
    /// Its usual name, for messages.
    pub name: &'static str,
    /// What this crate uses it for.
    pub purpose: &'static str,
    /// The file names searched for, preferred ones first.
    pub files: &'static [&'static str],
    /// The name by which `cudarc` opens it, without `lib` and the extension; `None` if `cudarc` does not use it.
    pub base_name: Option<&'static str>,
    /// Prefixes of file names: files of the same folder that are opened before it, since it depends on them.
    pub companions: &'static [&'static str],
    /// The symbols that it must export.
    pub symbols: &'static [&'static str],
    /// The oldest supported version.
    pub oldest: Version,
    /// How to install it, for messages.
    pub advice: &'static str,
}

/// A version: major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// The outcome of searching for a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Found and usable.
    Found {
        /// The file it was loaded from.
        path: PathBuf,
        /// The version that it reports.
        version: Version,
        /// Anything unusual about it.
        note: Option<String>,
    },
    /// Not found or not usable: the error for whoever needs it.
    Unavailable(NoCuda),
}

/// A library that was searched for.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) library: Library,
    pub(crate) status: Status,
    pub(crate) handle: Option<Handle>,
}

/// All libraries that were searched for, and where.
#[derive(Debug)]
pub(crate) struct Libraries {
    pub(crate) loaded: Vec<Loaded>,
    pub(crate) places: Vec<String>,
    pub(crate) notes: Vec<String>,
}

/// The libraries of this process, searched for once.
pub(crate) fn libraries() -> &'static Libraries {
    static LIBRARIES: OnceLock<Libraries> = OnceLock::new();
    LIBRARIES.get_or_init(|| Libraries::load(&Search::from_env()))
}

impl Libraries {
    pub(crate) fn load(search: &Search) -> Self {
        let loaded = search.libraries.iter().map(|library| load(library, search)).collect();
        Self { loaded, places: search.places(), notes: search.notes.clone() }
    }

    pub(crate) fn get(&self, id: Id) -> Option<&Loaded> {
        self.loaded.iter().find(|loaded| loaded.library.id == id)
    }

    /// A library that is needed.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(crate) fn require(&self, id: Id) -> Result<&Loaded, NoCuda> {
        let missing = || NoCuda::Missing {
            library: "a CUDA library",
            names: vec![format!("{id:?}")],
            places: self.places.clone(),
            advice: "It was not on the list of libraries to search for".to_owned(),
        };
        let loaded = self.get(id).ok_or_else(missing)?;
        match &loaded.status {
            Status::Found { .. } => Ok(loaded),
            Status::Unavailable(why) => Err(why.clone()),
        }
    }
}
