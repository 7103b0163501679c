//! Small results that are costly to get, kept in a folder between runs: compiled kernels, chosen algorithms.
//!
//! What must hold: nothing depends on it. What cannot be read, is damaged or was kept for another question counts as
//! not there; what cannot be written is not kept. A file appears whole or not at all.
//!
//! The folder is `$JEMPP_CACHE_DIR`, else `$XDG_CACHE_HOME/jempp`, else `~/.cache/jempp`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

const MAGIC: &[u8] = b"jempp cache 1\n";
const DIGEST: usize = 16;

/// FNV-1a of 128 bits: names files and finds damage; it is no defence against anyone.
pub(crate) fn digest(bytes: &[u8]) -> u128 {
    const PRIME: u128 = (1 << 88) + 0x13b;
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, &byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    })
}

/// The folder that the environment names.
pub(crate) fn folder() -> Option<PathBuf> {
    folder_of(|name| std::env::var_os(name))
}

fn folder_of(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("JEMPP_CACHE_DIR")
        .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("jempp")))
        .or_else(|| set("HOME").map(|path| path.join(".cache/jempp")))
}

fn file(folder: &Path, question: &[u8]) -> PathBuf {
    folder.join(format!("{:032x}.kept", digest(question)))
}

/// What was kept as the answer to a question.
pub(crate) fn get(folder: Option<&Path>, question: &[u8]) -> Option<Vec<u8>> {
    let bytes = fs::read(file(folder?, question)).ok()?;
    let (sum, body) = bytes.strip_prefix(MAGIC)?.split_at_checked(DIGEST)?;
    if digest(body).to_le_bytes() != *sum {
        return None;
    }
    // The question itself is kept too, so that two that share a name are told apart.
    let (length, rest) = body.split_at_checked(size_of::<u64>())?;
    let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
    let (asked, answer) = rest.split_at_checked(length)?;
    (asked == question).then(|| answer.to_vec())
}

/// Keeps an answer, if that is possible.
pub(crate) fn put(folder: Option<&Path>, question: &[u8], answer: &[u8]) {
    let Some(folder) = folder else { return };
    let mut body = (question.len() as u64).to_le_bytes().to_vec();
    body.extend_from_slice(question);
    body.extend_from_slice(answer);
    let bytes = [MAGIC, &digest(&body).to_le_bytes(), &body].concat();
    let to = file(folder, question);
    let beside = to.with_extension(format!("{}.new", process::id()));
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&beside, bytes));
    if written.and_then(|()| fs::rename(&beside, &to)).is_err() {
        let _ = fs::remove_file(&beside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_and_damage_is_found() {
        let folder = std::env::temp_dir().join(format!("jempp-store-{}", process::id()));
        let _ = fs::remove_dir_all(&folder);
        let at = Some(folder.as_path());
        assert_eq!(get(at, b"q"), None);
        put(at, b"q", b"answer");
        assert_eq!(get(at, b"q").as_deref(), Some(&b"answer"[..]));
        assert_eq!(get(at, b"p"), None);
        let path = file(&folder, b"q");
        let good = fs::read(&path).unwrap();
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert_eq!(get(at, b"q"), None, "byte {i}");
            fs::write(&path, &good[..i]).unwrap();
            assert_eq!(get(at, b"q"), None, "cut at {i}");
        }
        // A file in place of the folder: nothing is kept and nothing fails.
        put(Some(&path), b"q", b"answer");
        assert_eq!(get(Some(&path), b"q"), None);
        put(None, b"q", b"answer");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_folder_is_the_first_that_is_named() {
        let with = |pairs: &'static [(&str, &str)]| {
            folder_of(|name| pairs.iter().find(|p| p.0 == name).map(|p| OsString::from(p.1)))
        };
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[("HOME", "/h")]), Some(PathBuf::from("/h/.cache/jempp")));
        assert_eq!(with(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Some(PathBuf::from("/x/jempp")));
        assert_eq!(with(&[("JEMPP_CACHE_DIR", "/j"), ("XDG_CACHE_HOME", "/x")]), Some(PathBuf::from("/j")));
        assert_eq!(with(&[("JEMPP_CACHE_DIR", ""), ("HOME", "/h")]), Some(PathBuf::from("/h/.cache/jempp")));
    }
}
