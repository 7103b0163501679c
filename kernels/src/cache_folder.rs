//! The folder that all caches of jempp share: compiled kernels and chosen algorithms of a GPU, decoded data sets.

use std::ffi::OsString;
use std::path::PathBuf;

/// The cache folder: `$JEMPP_CACHE_DIR`, else `$XDG_CACHE_HOME/jempp`, else `~/.cache/jempp`; `None` if there is no home
/// directory either. It need not exist.
///
/// Empty variables count as unset. A relative `XDG_CACHE_HOME` is ignored, as the XDG Base Directory Specification demands;
/// a relative `JEMPP_CACHE_DIR` is relative to the working directory.
pub fn cache_folder() -> Option<PathBuf> {
    folder_of(|name| std::env::var_os(name), std::env::home_dir())
}

fn folder_of(var: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    let set = |name| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let xdg = || set("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("jempp"));
    set("JEMPP_CACHE_DIR").or_else(xdg).or_else(|| home.map(|path| path.join(".cache/jempp")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_chooses_the_folder() {
        let at = |set: &[(&str, &str)], home: Option<&str>| {
            let var = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into());
            folder_of(var, home.map(PathBuf::from)).map(|p| p.display().to_string())
        };
        let (own, xdg) = (("JEMPP_CACHE_DIR", "own"), ("XDG_CACHE_HOME", "/xdg"));
        assert_eq!(at(&[own, xdg], Some("/h")).as_deref(), Some("own"));
        assert_eq!(at(&[xdg], Some("/h")).as_deref(), Some("/xdg/jempp"));
        for set in [&[][..], &[("XDG_CACHE_HOME", "relative")], &[("JEMPP_CACHE_DIR", "")]] {
            assert_eq!(at(set, Some("/h")).as_deref(), Some("/h/.cache/jempp"));
        }
        assert_eq!(at(&[], None), None);
    }
}
