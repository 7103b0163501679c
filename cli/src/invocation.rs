//! How the user can start this program again: the commands that it prints must run from where the user stands.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Name of the program.
const NAME: &str = "jempp-cli";

/// This program as a word of a shell command: its name if the search path finds it by that, else its path, from the current
/// folder where it lies below that.
pub(crate) fn program() -> String {
    let name = || NAME.to_owned();
    let (Ok(exe), Ok(here)) = (std::env::current_exe(), std::env::current_dir()) else { return name() };
    let path = std::env::var_os("PATH");
    word(&exe, path.as_deref(), &here)
}

fn word(exe: &Path, search: Option<&OsStr>, here: &Path) -> String {
    let real = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.to_path_buf());
    let (exe, here) = (real(exe), real(here));
    let name = Path::new(NAME).with_extension(std::env::consts::EXE_EXTENSION);
    // Relative entries of the search path mean other folders elsewhere.
    let folders = search.iter().flat_map(|s| std::env::split_paths(s)).filter(|f| f.is_absolute());
    let found = folders.map(|f| f.join(&name)).find(|f| f.is_file());
    if found.is_some_and(|f| real(&f) == exe) {
        return NAME.to_owned();
    }
    let shown: PathBuf = match exe.strip_prefix(&here) {
        // A name alone would be searched for.
        Ok(below) if below.components().count() == 1 => Path::new(".").join(below),
        Ok(below) => below.to_path_buf(),
        Err(_) => exe,
    };
    quote(&shown.display().to_string())
}

/// A word of a shell command, in quotes if it needs them.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A path as a word of a shell command.
pub(crate) fn path(path: &Path) -> String {
    quote(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    #[test]
    fn words_need_quotes_or_not() {
        assert_eq!(quote("runs/train-001"), "runs/train-001");
        assert_eq!(quote("my run"), "'my run'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    #[cfg(unix)]
    fn the_program_is_called_as_the_shell_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let make = |name: &str| {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let (exe, other) = (make("a b/target/release/jempp-cli"), make("other/jempp-cli"));
        std::fs::create_dir(root.join("bin")).unwrap();
        std::os::unix::fs::symlink(&exe, root.join("bin/jempp-cli")).unwrap();
        let search = |folders: &[&Path]| -> OsString { std::env::join_paths(folders).unwrap() };
        let (bin, others) = (root.join("bin"), other.parent().unwrap().to_path_buf());
        let say = |s: Option<OsString>, here: &Path| word(&exe, s.as_deref(), here);
        assert_eq!(say(Some(search(&[&root, &bin, &others])), &root), "jempp-cli");
        // Another program of the name comes first.
        let hidden = Some(search(&[&others, &bin]));
        assert_eq!(say(hidden, &root.join("a b")), "target/release/jempp-cli");
        assert_eq!(say(None, &root), "'a b/target/release/jempp-cli'");
        assert_eq!(say(None, exe.parent().unwrap()), "./jempp-cli");
        assert_eq!(say(None, &bin), quote(&exe.display().to_string()));
        assert_eq!(say(Some(OsString::from("bin")), &root), "'a b/target/release/jempp-cli'");
    }
}
