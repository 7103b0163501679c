//! What a program file needs of a machine: shared libraries and the version of the GNU C library.
//!
//! What must hold: it needs no tool, as a machine without a compiler has none, and reads the file's text only.

use std::collections::BTreeSet;

/// What is named in a program file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Shared libraries that it is linked with.
    pub libraries: Vec<String>,
    /// The newest version of the GNU C library that a symbol asks for.
    pub glibc: Option<(u32, u32)>,
}

/// Finds the names in a program's bytes.
#[must_use]
pub fn of(program: &[u8]) -> Needs {
    // Both kinds of name lie in the table of names of dynamic symbols, one after the other, each with a NUL at its end.
    let mut libraries = BTreeSet::new();
    let mut glibc = None;
    for name in program.split(|b| *b == 0).filter_map(|name| std::str::from_utf8(name).ok()) {
        if let Some(version) = name.strip_prefix("GLIBC_2.") {
            let minor = version.split('.').next().and_then(|minor| minor.parse().ok());
            glibc = glibc.max(minor.map(|minor| (2, minor)));
        }
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c));
        if plain && (name.starts_with("lib") || name.starts_with("ld-linux")) && name.contains(".so.") {
            libraries.insert(name.to_owned());
        }
    }
    Needs { libraries: libraries.into_iter().collect(), glibc }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_between_other_bytes() {
        let bytes = b"\x7fELF\0\0libc.so.6\0malloc\0GLIBC_2.2.5\0GLIBC_2.34\0libm.so.6\0GLIBC_2.9\0lib is here.so.1\0";
        let want = Needs { libraries: vec!["libc.so.6".into(), "libm.so.6".into()], glibc: Some((2, 34)) };
        assert_eq!(of(bytes), want);
    }

    #[test]
    fn this_program_needs_the_c_library() {
        if cfg!(all(target_os = "linux", target_env = "gnu")) {
            let needs = of(&std::fs::read(std::env::current_exe().unwrap()).unwrap());
            assert!(needs.libraries.iter().any(|l| l == "libc.so.6"), "{needs:?}");
            assert!(needs.glibc.is_some_and(|v| v >= (2, 2)), "{needs:?}");
        }
    }
}
