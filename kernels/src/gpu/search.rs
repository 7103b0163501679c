//! Where CUDA's libraries are looked for.
//!
//! What must hold: only folders are read, nothing is run and nothing is loaded; the order is that of preference, and
//! the same environment gives the same order.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::known::KNOWN;
use super::libs::Library;

/// The variable that names folders to look in before all others, separated by colons.
pub const PATH_VARIABLE: &str = "JEMPP_CUDA_PATH";

/// A folder to look in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The folder.
    pub path: PathBuf,
    /// What named it: a variable or a custom.
    pub from: &'static str,
}

/// What to look for, and where: everything the probe goes by.
#[derive(Clone, Debug)]
pub struct Search {
    /// Folders looked in first: those of [`PATH_VARIABLE`].
    pub first: Vec<Folder>,
    /// Whether the loader is then asked by name (`LD_LIBRARY_PATH`, the loader's cache).
    pub loader: bool,
    /// Folders looked in last.
    pub then: Vec<Folder>,
    /// The libraries, in the order in which they are to be loaded.
    pub libraries: Vec<Library>,
    /// What is odd about the environment, for the reader of a report.
    pub notes: Vec<String>,
}

impl Search {
    /// The search of this process's environment.
    #[must_use]
    pub fn from_env() -> Self {
        Self::with(|name| env::var_os(name), Path::new("/"))
    }

    /// A search with the variables `var` answers and with `root` in place of `/`.
    pub fn with(var: impl Fn(&str) -> Option<OsString>, root: &Path) -> Self {
        let mut notes = Vec::new();
        let mut first = Vec::new();
        for entry in paths(var(PATH_VARIABLE)) {
            if !entry.is_dir() {
                notes.push(format!("{PATH_VARIABLE} names {}, which is no folder", entry.display()));
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
        then.retain(|folder| first.iter().all(|f: &Folder| !same(&f.path, &folder.path)));
        Self { first, loader: true, then, libraries: KNOWN.to_vec(), notes }
    }

    /// Every place, as words for a message.
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

/// Adds those of `paths` that are folders and not yet there under any name.
fn add(folders: &mut Vec<Folder>, from: &'static str, paths: Vec<PathBuf>) {
    for path in paths {
        if path.is_dir() && folders.iter().all(|folder| !same(&folder.path, &path)) {
            folders.push(Folder { path, from });
        }
    }
}

/// Whether two paths lead to one place.
pub(crate) fn same(a: &Path, b: &Path) -> bool {
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

/// All the ways in which a folder named by hand may hold libraries: itself, a toolkit, a Python environment, its
/// `site-packages` or the `nvidia` folder in it.
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

/// Toolkits under `/usr/local` and `/opt`: the one without a version in its name first, then the newest.
fn toolkits(root: &Path) -> Vec<PathBuf> {
    let local = root.join("usr/local");
    let mut homes = children(&local, "cuda-");
    homes.sort_by_key(|home| std::cmp::Reverse(number(home)));
    homes.insert(0, local.join("cuda"));
    homes.push(root.join("opt/cuda"));
    homes.iter().flat_map(|home| [home.join("lib64"), home.join(triple()).join("lib")]).collect()
}

/// `/usr/local/cuda-13.0` as (13, 0), so that 13 comes after 9.
fn number(home: &Path) -> (u32, u32) {
    let name = home.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut parts = name.trim_start_matches("cuda-").split('.').map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Folders of distributions, containers, WSL and NixOS.
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

/// The prefixes of the first `python3` and the first `python` on `path`, as named and as resolved through links;
/// for the shims of pyenv, which are scripts, those of all its versions.
fn interpreters(path: &[PathBuf]) -> Vec<PathBuf> {
    let mut prefixes: Vec<PathBuf> = Vec::new();
    for name in ["python3", "python"] {
        let Some(bin) = path.iter().find(|dir| dir.join(name).is_file()) else { continue };
        if bin.file_name().is_some_and(|n| n == "shims") {
            prefixes
                .extend(bin.parent().map(|root| children(&root.join("versions"), "")).unwrap_or_default());
        }
        prefixes.extend(bin.parent().map(Path::to_path_buf));
        let resolved = fs::canonicalize(bin.join(name)).ok();
        prefixes
            .extend(resolved.as_deref().and_then(Path::parent).and_then(Path::parent).map(Path::to_path_buf));
    }
    prefixes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A folder of this process alone, gone when dropped.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("jempp-search-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn folder(&self, below: &str) -> PathBuf {
            let path = self.0.join(below);
            fs::create_dir_all(&path).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn names(folders: &[Folder]) -> Vec<&Path> {
        folders.iter().map(|folder| folder.path.as_path()).collect()
    }

    #[test]
    fn the_variable_comes_first_and_takes_many_layouts() {
        let scratch = Scratch::new("variable");
        let toolkit = scratch.folder("toolkit/lib64");
        let wheel = scratch.folder("venv/lib/python3.12/site-packages/nvidia/cu13/lib");
        let value = format!("{0}/toolkit:{0}/venv:{0}/absent", scratch.0.display());
        let search = Search::with(|name| (name == PATH_VARIABLE).then(|| value.clone().into()), &scratch.0);
        assert!(names(&search.first).contains(&toolkit.as_path()));
        assert!(names(&search.first).contains(&wheel.as_path()));
        assert_eq!(search.notes.len(), 1, "{:?}", search.notes);
        for site in ["venv/lib/python3.12/site-packages", "venv/lib/python3.12/site-packages/nvidia"] {
            assert!(below(&scratch.0.join(site)).contains(&wheel), "{site}");
        }
    }

    #[test]
    fn newer_toolkits_come_before_older_ones() {
        let scratch = Scratch::new("toolkits");
        let old = scratch.folder("usr/local/cuda-9.2/lib64");
        let new = scratch.folder("usr/local/cuda-13.0/lib64");
        let current = scratch.folder("usr/local/cuda/lib64");
        let search = Search::with(|_| None, &scratch.0);
        assert_eq!(names(&search.then), [current.as_path(), &new, &old]);
    }

    #[test]
    fn python_environments_are_found_without_running_python() {
        let scratch = Scratch::new("python");
        let active = scratch.folder("active/lib/python3.11/site-packages/nvidia/cudnn/lib");
        let conda = scratch.folder("conda/lib/python3.13/site-packages/nvidia/nccl/lib");
        let shimmed = scratch.folder("pyenv/versions/3.12.1/lib/python3.12/site-packages/nvidia/cu13/lib");
        let shims = scratch.folder("pyenv/shims");
        fs::write(shims.join("python3"), "#!/bin/sh\nexit 1\n").unwrap();
        let at = |below: &str| Some(scratch.0.join(below).into_os_string());
        let search = Search::with(
            |name| match name {
                "VIRTUAL_ENV" => at("active"),
                "CONDA_PREFIX" => at("conda"),
                "PATH" => at("pyenv/shims"),
                _ => None,
            },
            &scratch.0,
        );
        for folder in [&active, &conda, &shimmed, &scratch.0.join("conda/lib")] {
            assert!(names(&search.then).contains(&folder.as_path()), "{}", folder.display());
        }
    }
}
