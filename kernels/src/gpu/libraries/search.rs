//! Where CUDA's libraries are searched for.
//!
//! What must hold: only folders are listed, nothing is run or loaded; folders are in order of preference, and the same
//! environment gives the same order.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::{KNOWN, Library};

/// The environment variable that lists folders to search before all others, separated by colons.
pub const PATH_VARIABLE: &str = "JEMPP_CUDA_PATH";

/// A folder to search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The folder.
    pub path: PathBuf,
    /// Where it comes from: an environment variable or a conventional location, as words for a message.
    pub from: &'static str,
}

/// What to search for, and where: all that the probe depends on.
#[derive(Clone, Debug)]
pub struct Search {
    /// Folders searched first: those of [`PATH_VARIABLE`].
    pub first: Vec<Folder>,
    /// Whether the dynamic loader's own search path comes next (`LD_LIBRARY_PATH`, the loader's cache).
    pub loader: bool,
    /// Folders searched last.
    pub then: Vec<Folder>,
    /// The libraries, in the order of loading.
    pub libraries: Vec<Library>,
    /// Anything unusual about the environment, for the reader of a report.
    pub notes: Vec<String>,
}

impl Search {
    /// The search of this process's environment.
    #[must_use]
    pub fn from_env() -> Self {
        Self::with(|name| env::var_os(name), Path::new("/"))
    }

    /// A search with the environment variables that `var` looks up, and with `root` in place of `/`.
    pub fn with(var: impl Fn(&str) -> Option<OsString>, root: &Path) -> Self {
        let mut notes = Vec::new();
        let mut first = Vec::new();
        for entry in paths(var(PATH_VARIABLE)) {
            if !entry.is_dir() {
                notes.push(format!("{PATH_VARIABLE} names {}, which is not a folder", entry.display()));
            }
            add(&mut first, PATH_VARIABLE, below(&entry));
        }

        let mut then = Vec::new();
        for name in ["CUDA_HOME", "CUDA_PATH"] {
            for entry in paths(var(name)) {
                add(&mut then, if name == "CUDA_HOME" { "CUDA_HOME" } else { "CUDA_PATH" }, below(&entry));
            }
        }
        add(&mut then, "CUDA's usual folder", toolkits(root));
        add(&mut then, "the system's usual folder", system(root));
        for (name, from) in [("VIRTUAL_ENV", "VIRTUAL_ENV"), ("CONDA_PREFIX", "CONDA_PREFIX")] {
            for prefix in paths(var(name)) {
                add(&mut then, from, python(&prefix));
                if name == "CONDA_PREFIX" {
                    add(&mut then, from, vec![prefix.join("lib"), prefix.join(triple()).join("lib")]);
                }
            }
        }
        for prefix in interpreters(&paths(var("PATH"))) {
            add(&mut then, "python3 on PATH", python(&prefix));
        }
        for home in paths(var("HOME")) {
            add(&mut then, "the user's Python packages", python(&home.join(".local")));
        }
        then.retain(|folder| first.iter().all(|f: &Folder| !same_file(&f.path, &folder.path)));
        Self { first, loader: true, then, libraries: KNOWN.to_vec(), notes }
    }

    /// Every place searched, in order, as words for a message.
    #[must_use]
    pub fn places(&self) -> Vec<String> {
        let words = |folder: &Folder| format!("{} ({})", folder.path.display(), folder.from);
        let mut places: Vec<String> = self.first.iter().map(words).collect();
        if self.loader {
            places.push("the loader's own path (LD_LIBRARY_PATH and its cache)".to_owned());
        }
        places.extend(self.then.iter().map(words));
        places
    }
}

/// Adds those of `paths` that are existing folders and not in the list yet under any name.
fn add(folders: &mut Vec<Folder>, from: &'static str, paths: Vec<PathBuf>) {
    for path in paths {
        if path.is_dir() && folders.iter().all(|folder| !same_file(&folder.path, &path)) {
            folders.push(Folder { path, from });
        }
    }
}

/// Whether two paths lead to the same file or folder.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

fn paths(value: Option<OsString>) -> Vec<PathBuf> {
    value.map(|v| env::split_paths(&v).filter(|p| !p.as_os_str().is_empty()).collect()).unwrap_or_default()
}

/// The sub-folders of `folder` whose names begin with `prefix`, by name.
fn children(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|e| e.file_name().to_string_lossy().starts_with(prefix))
        .map(|e| e.path())
        .filter(|p| p.is_dir())
        .collect();
    found.sort();
    found
}

fn triple() -> String {
    format!("targets/{}-linux", if cfg!(target_arch = "aarch64") { "sbsa" } else { env::consts::ARCH })
}

/// Where a folder that the user named may hold libraries: it may be the library folder itself, a toolkit, a Python
/// environment, its `site-packages` or the `nvidia` folder in there.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![
        folder.to_path_buf(),
        folder.join("lib64"),
        folder.join(triple()).join("lib"),
        folder.join("lib"),
        folder.join("lib").join(format!("{}-linux-gnu", env::consts::ARCH)),
    ];
    found.extend(children(folder, "").into_iter().map(|child| child.join("lib")));
    found.extend(packages(folder));
    found.extend(python(folder));
    found
}

/// Library folders of toolkits under `/usr/local` and `/opt`: the one without a version in its name first, then the
/// newest.
fn toolkits(root: &Path) -> Vec<PathBuf> {
    let local = root.join("usr/local");
    let mut homes = children(&local, "cuda-");
    homes.sort_by_key(|home| std::cmp::Reverse(toolkit_version(home)));
    homes.insert(0, local.join("cuda"));
    homes.push(root.join("opt/cuda"));
    homes.iter().flat_map(|home| [home.join("lib64"), home.join(triple()).join("lib")]).collect()
}

/// `/usr/local/cuda-13.0` as (13, 0), so that 13 sorts after 9.
fn toolkit_version(home: &Path) -> (u32, u32) {
    let name = home.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut parts = name.trim_start_matches("cuda-").split('.').map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Library folders of Linux distributions, containers, WSL and NixOS.
fn system(root: &Path) -> Vec<PathBuf> {
    let gnu = format!("usr/lib/{}-linux-gnu", env::consts::ARCH);
    [
        gnu.as_str(),
        &format!("{gnu}/nvidia/current"),
        "usr/lib64",
        "usr/lib64/nvidia",
        "usr/lib",
        "usr/lib/nvidia",
        "usr/local/nvidia/lib64",
        "usr/local/nvidia/lib",
        "usr/lib/wsl/lib",
        "run/opengl-driver/lib",
    ]
    .iter()
    .map(|folder| root.join(folder))
    .collect()
}

/// The `nvidia/*/lib` folders of the Python at `prefix`.
fn python(prefix: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for lib in ["lib", "lib64", "local/lib"] {
        for version in children(&prefix.join(lib), "python3") {
            for site in ["site-packages", "dist-packages"] {
                found.extend(packages(&version.join(site)));
            }
        }
    }
    found
}

/// The `nvidia/*/lib` folders of a `site-packages`.
fn packages(site: &Path) -> Vec<PathBuf> {
    children(&site.join("nvidia"), "").into_iter().map(|package| package.join("lib")).collect()
}

/// The installation prefixes of the first `python3` and the first `python` on `path`: where they stand, and where each
/// link on the way to the program leads, as one of them may be in a virtual environment; for pyenv's shims, which are
/// scripts, those of all its versions.
fn interpreters(path: &[PathBuf]) -> Vec<PathBuf> {
    let mut prefixes: Vec<PathBuf> = Vec::new();
    for name in ["python3", "python"] {
        let Some(bin) = path.iter().find(|dir| dir.join(name).is_file()) else { continue };
        if bin.file_name().is_some_and(|n| n == "shims") {
            prefixes
                .extend(bin.parent().map(|root| children(&root.join("versions"), "")).unwrap_or_default());
        }
        let prefix = |program: &Path| program.parent().and_then(Path::parent).map(Path::to_path_buf);
        prefixes.extend(links(&bin.join(name)).iter().filter_map(|program| prefix(program)));
    }
    prefixes
}

/// A file and what its links lead to, one after the other.
fn links(file: &Path) -> Vec<PathBuf> {
    /// More than any sensible installation has; links may form a circle.
    const MOST: usize = 16;
    let mut found = vec![file.to_path_buf()];
    while let Some(Ok(target)) = found.last().map(fs::read_link) {
        let folder = found.last().and_then(|link| link.parent()).unwrap_or(Path::new(""));
        found.push(folder.join(target));
        if found.len() > MOST {
            break;
        }
    }
    found.extend(fs::canonicalize(file));
    found
}

#[cfg(test)]
mod tests;
