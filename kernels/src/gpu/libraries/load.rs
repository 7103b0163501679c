//! Loading one library: opening it, and checking whether it can be used.

use std::ffi::c_int;
use std::fs;
use std::path::{Path, PathBuf};

use super::search::same_file;
use super::{Folder, Handle, Id, Library, Loaded, PATH_VARIABLE, Search, Status, Version};
use crate::gpu::error::NoCuda;

/// Searches for one library and loads it.
pub(super) fn load(library: &Library, search: &Search) -> Loaded {
    let mut failures = Vec::new();
    let opened = open(library, search, &mut failures);
    let by_name = library.base_name.filter(|_| search.loader).and_then(|name| {
        let names = cudarc::get_lib_name_candidates(name);
        names.iter().find_map(|name| Handle::open(name).ok())
    });
    let (wanted, handle) = match (opened, by_name) {
        (wanted, Some(handle)) => (wanted.map(|(path, _)| path), handle),
        (Some((path, _)), None) if library.base_name.is_some() && search.loader => {
            let status = unusable(library, &path, "it opens by its path but not by its name".to_owned());
            return Loaded { library: library.clone(), status, handle: None };
        }
        (Some((path, handle)), None) => (Some(path), handle),
        (None, None) => {
            let status = match failures.into_iter().next() {
                Some((path, reason)) => unusable(library, &path, reason),
                None => missing(library, search),
            };
            return Loaded { library: library.clone(), status, handle: None };
        }
    };

    let mapped = library.symbols.iter().find_map(|symbol| handle.file_of(symbol));
    let path = mapped.or_else(|| wanted.clone()).unwrap_or_else(|| PathBuf::from(library.name));
    let status = match usable_version(library, &handle) {
        Err(reason) => unusable(library, &path, reason),
        Ok(version) => {
            let other = wanted.filter(|wanted| wanted.is_absolute() && !same_file(wanted, &path));
            let note = other.map(|wanted| {
                format!("the loader's path has this copy, which is used in place of {}", wanted.display())
            });
            Status::Found { path, version, note }
        }
    };
    Loaded { library: library.clone(), status, handle: Some(handle) }
}

fn advice(library: &Library) -> String {
    format!("{}; {PATH_VARIABLE} names folders to search first", library.advice)
}

fn unusable(library: &Library, path: &Path, reason: String) -> Status {
    let path = path.display().to_string();
    Status::Unavailable(NoCuda::Unusable { library: library.name, path, reason, advice: advice(library) })
}

fn missing(library: &Library, search: &Search) -> Status {
    Status::Unavailable(NoCuda::Missing {
        library: library.name,
        names: library.files.iter().map(ToString::to_string).collect(),
        places: search.places(),
        advice: advice(library),
    })
}

/// The first copy that opens: in the folders searched first, by the loader, in the other folders. What does not open is
/// added to `failures`.
fn open(
    library: &Library,
    search: &Search,
    failures: &mut Vec<(PathBuf, String)>,
) -> Option<(PathBuf, Handle)> {
    let mut from = |folders: &[Folder]| {
        let paths =
            library.files.iter().flat_map(|file| folders.iter().map(move |folder| folder.path.join(file)));
        for path in paths.filter(|path| path.is_file()) {
            open_companions(library, &path);
            match Handle::open(&path) {
                Ok(handle) => return Some((path, handle)),
                Err(reason) => failures.push((path, reason)),
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

/// Opens the files that the library at `path` depends on. If one does not open, opening the library will say so.
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

/// The version of an open library.
///
/// # Errors
/// Why it cannot be used: a missing symbol, or a version that is too old.
fn usable_version(library: &Library, handle: &Handle) -> Result<Version, String> {
    let missing: Vec<&str> =
        library.symbols.iter().copied().filter(|s| handle.address(s).is_none()).collect();
    if !missing.is_empty() {
        let more = if missing.len() > 3 { format!(" and {} more", missing.len() - 3) } else { String::new() };
        return Err(format!("it lacks {}{more}", missing[..missing.len().min(3)].join(", ")));
    }
    let version = version(library.id, handle).ok_or("it does not report its version")?;
    if version < library.oldest {
        return Err(format!("it is version {version}, and at least {} is needed", library.oldest));
    }
    Ok(version)
}

/// The version that a library reports. Needs no device.
fn version(id: Id, handle: &Handle) -> Option<Version> {
    type OutInt = unsafe extern "C" fn(*mut c_int) -> c_int;
    type OutInts = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
    type Property = unsafe extern "C" fn(c_int, *mut c_int) -> c_int;
    type Number = unsafe extern "C" fn() -> usize;

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
            let number = unsafe { handle.function::<Number>("cudnnGetVersion")?() };
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
