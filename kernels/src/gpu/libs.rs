//! CUDA's libraries: which there are, finding and loading them, their versions.
//!
//! What must hold: loading never panics; a library counts as found only when it opens, has every symbol that this
//! crate calls and is new enough; the copy judged is the copy that `cudarc` will open by name.
//!
//! A library found by path is opened for all (`RTLD_GLOBAL`), after those of its folder that it needs, so that a
//! later opening by its own name (SONAME) gives this copy. So libraries inside a Python environment work without
//! `LD_LIBRARY_PATH`.

use std::ffi::c_int;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::dl::Handle;
use super::error::NoCuda;
use super::search::{Folder, PATH_VARIABLE, Search, same};

/// A library of CUDA.
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

/// What to know of a library to look for it.
#[derive(Clone, Debug)]
pub struct Library {
    /// Which one.
    pub id: Id,
    /// Its name, as people call it.
    pub name: &'static str,
    /// What it is for here.
    pub purpose: &'static str,
    /// The file names looked for, best first.
    pub files: &'static [&'static str],
    /// The name under which `cudarc` opens it, without `lib` and the ending; none where that is not wanted.
    pub stem: Option<&'static str>,
    /// Beginnings of file names: files of the same folder to be opened before it.
    pub companions: &'static [&'static str],
    /// The symbols that it must have.
    pub symbols: &'static [&'static str],
    /// The oldest version of use.
    pub oldest: Version,
    /// How to get it.
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

/// What came of looking for a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Found and of use.
    Found {
        /// The file it was loaded from.
        path: PathBuf,
        /// Its own word on its version.
        version: Version,
        /// What is odd about it.
        note: Option<String>,
    },
    /// Not found, or of no use: the error to give to who needs it.
    Unavailable(NoCuda),
}

/// A library looked for.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) library: Library,
    pub(crate) status: Status,
    pub(crate) handle: Option<Handle>,
}

/// All libraries looked for, and where.
#[derive(Debug)]
pub(crate) struct Libraries {
    pub(crate) loaded: Vec<Loaded>,
    pub(crate) places: Vec<String>,
    pub(crate) notes: Vec<String>,
}

/// The libraries of this process, looked for once.
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

    /// A library that must be there.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) fn require(&self, id: Id) -> Result<&Loaded, NoCuda> {
        let missing = || NoCuda::Missing {
            library: "a CUDA library",
            names: vec![format!("{id:?}")],
            places: self.places.clone(),
            advice: "It was not on the list of libraries to look for".to_owned(),
        };
        let loaded = self.get(id).ok_or_else(missing)?;
        match &loaded.status {
            Status::Found { .. } => Ok(loaded),
            Status::Unavailable(why) => Err(why.clone()),
        }
    }
}

/// Looks for one library and loads it.
fn load(library: &Library, search: &Search) -> Loaded {
    let mut troubles = Vec::new();
    let opened = open(library, search, &mut troubles);
    let by_name = library.stem.filter(|_| search.loader).and_then(|stem| {
        let names = cudarc::get_lib_name_candidates(stem);
        names.iter().find_map(|name| Handle::open(name).ok())
    });
    let advice = format!("{}; {PATH_VARIABLE} names folders to look in first", library.advice);
    let unusable = |path: &Path, reason: String| {
        let path = path.display().to_string();
        Status::Unavailable(NoCuda::Unusable { library: library.name, path, reason, advice: advice.clone() })
    };
    let (wanted, handle) = match (opened, by_name) {
        (wanted, Some(handle)) => (wanted.map(|(path, _)| path), handle),
        (Some((path, _)), None) if library.stem.is_some() && search.loader => {
            let status = unusable(&path, "it opens by its path but not by its name".to_owned());
            return Loaded { library: library.clone(), status, handle: None };
        }
        (Some((path, handle)), None) => (Some(path), handle),
        (None, None) => {
            let status = match troubles.into_iter().next() {
                Some((path, reason)) => unusable(&path, reason),
                None => Status::Unavailable(NoCuda::Missing {
                    library: library.name,
                    names: library.files.iter().map(ToString::to_string).collect(),
                    places: search.places(),
                    advice,
                }),
            };
            return Loaded { library: library.clone(), status, handle: None };
        }
    };

    let mapped = library.symbols.iter().find_map(|symbol| handle.file_of(symbol));
    let path = mapped.or_else(|| wanted.clone()).unwrap_or_else(|| PathBuf::from(library.name));
    let status = match judge(library, &handle) {
        Err(reason) => unusable(&path, reason),
        Ok(version) => {
            let note = wanted.filter(|wanted| wanted.is_absolute() && !same(wanted, &path)).map(|wanted| {
                format!("the loader's path has this copy, which is used in place of {}", wanted.display())
            });
            Status::Found { path, version, note }
        }
    };
    Loaded { library: library.clone(), status, handle: Some(handle) }
}

/// The first copy that opens: the folders named first, the loader, the other folders.
fn open(
    library: &Library,
    search: &Search,
    troubles: &mut Vec<(PathBuf, String)>,
) -> Option<(PathBuf, Handle)> {
    let mut from = |folders: &[Folder]| {
        let paths =
            library.files.iter().flat_map(|file| folders.iter().map(move |folder| folder.path.join(file)));
        for path in paths.filter(|path| path.is_file()) {
            open_companions(library, &path);
            match Handle::open(&path) {
                Ok(handle) => return Some((path, handle)),
                Err(reason) => troubles.push((path, reason)),
            }
        }
        None
    };
    if let Some(found) = from(&search.first) {
        return Some(found);
    }
    if search.loader {
        let found =
            library.files.iter().find_map(|file| Some((PathBuf::from(file), Handle::open(file).ok()?)));
        if found.is_some() {
            return found;
        }
    }
    from(&search.then)
}

/// Opens what must be there before the library at `path`. One that does not open is left for the library to miss.
fn open_companions(library: &Library, path: &Path) {
    let Some(Ok(entries)) = path.parent().map(fs::read_dir) else { return };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.sort();
    for file in files {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if library.companions.iter().any(|start| name.starts_with(start)) {
            let _ = Handle::open(&file);
        }
    }
}

/// Whether an open library is of use: its version.
fn judge(library: &Library, handle: &Handle) -> Result<Version, String> {
    let missing: Vec<&str> =
        library.symbols.iter().copied().filter(|s| handle.address(s).is_none()).collect();
    if !missing.is_empty() {
        let more = if missing.len() > 3 { format!(" and {} more", missing.len() - 3) } else { String::new() };
        return Err(format!("it lacks {}{more}", missing[..missing.len().min(3)].join(", ")));
    }
    let version = version(library.id, handle).ok_or("it does not say its version")?;
    if version < library.oldest {
        return Err(format!("it is version {version}, and at least {} is needed", library.oldest));
    }
    Ok(version)
}

/// What a library says its version is. Needs no device.
fn version(id: Id, handle: &Handle) -> Option<Version> {
    type OutInt = unsafe extern "C" fn(*mut c_int) -> c_int;
    type OutInts = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
    type Property = unsafe extern "C" fn(c_int, *mut c_int) -> c_int;
    type Plain = unsafe extern "C" fn() -> usize;

    let one = |symbol: &str| {
        let mut number = 0;
        // SAFETY: these functions have this type in every version of CUDA (cuda.h, cuda_runtime_api.h, nccl.h), write
        // one int through the pointer and may be called before any initialisation.
        let code = unsafe { handle.function::<OutInt>(symbol)?(&mut number) };
        (code == 0).then(|| number.unsigned_abs())
    };
    match id {
        Id::Driver => one("cuDriverGetVersion").map(|n| Version(n / 1000, n % 1000 / 10, n % 10)),
        Id::Runtime => one("cudaRuntimeGetVersion").map(|n| Version(n / 1000, n % 1000 / 10, n % 10)),
        Id::Nccl => one("ncclGetVersion").map(|n| Version(n / 10_000, n % 10_000 / 100, n % 100)),
        Id::Nvrtc => {
            let (mut major, mut minor) = (0, 0);
            // SAFETY: the type is that of nvrtc.h; it writes two ints.
            let code = unsafe { handle.function::<OutInts>("nvrtcVersion")?(&mut major, &mut minor) };
            (code == 0).then(|| Version(major.unsigned_abs(), minor.unsigned_abs(), 0))
        }
        Id::Cudnn => {
            // SAFETY: the type is that of cudnn.h; it takes nothing and returns a number.
            let number = unsafe { handle.function::<Plain>("cudnnGetVersion")?() };
            let number = u32::try_from(number).ok()?;
            Some(Version(number / 10_000, number % 10_000 / 100, number % 100))
        }
        Id::Cublas => {
            let mut parts = [0u32; 3];
            for (kind, part) in (0..).zip(&mut parts) {
                let mut number = 0;
                // SAFETY: the type is that of cublas_api.h, libraryPropertyType being an int; it writes one int.
                let code = unsafe { handle.function::<Property>("cublasGetProperty")?(kind, &mut number) };
                *part = (code == 0).then_some(number.unsigned_abs())?;
            }
            Some(Version(parts[0], parts[1], parts[2]))
        }
    }
}
