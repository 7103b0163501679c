//! A disk cache of small results that are expensive to recompute: compiled kernels, measured choices of algorithms.
//!
//! What must hold: results never depend on the cache. An entry that cannot be read, is damaged or belongs to another
//! key counts as absent; a failed write is ignored. Files are written atomically.
//!
//! The folder is usually [`cache_folder`](crate::cache_folder::cache_folder).

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

const MAGIC: &[u8] = b"jempp cache 1\n";
const DIGEST: usize = 16;

/// FNV-1a with 128 bits. It names files and detects damage; it is not cryptographic.
pub(crate) fn digest(bytes: &[u8]) -> u128 {
    const PRIME: u128 = (1 << 88) + 0x13b;
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, &byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    })
}

fn file(folder: &Path, key: &[u8]) -> PathBuf {
    folder.join(format!("{:032x}.kept", digest(key)))
}

/// The value stored under a key, if there is one.
pub(crate) fn get(folder: Option<&Path>, key: &[u8]) -> Option<Vec<u8>> {
    let bytes = fs::read(file(folder?, key)).ok()?;
    let (sum, body) = bytes.strip_prefix(MAGIC)?.split_at_checked(DIGEST)?;
    if digest(body).to_le_bytes() != *sum {
        return None;
    }
    // The key itself is stored too, so that keys with the same digest are told apart.
    let (length, rest) = body.split_at_checked(size_of::<u64>())?;
    let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
    let (stored, value) = rest.split_at_checked(length)?;
    (stored == key).then(|| value.to_vec())
}

/// Stores a value under a key, if the folder can be written.
pub(crate) fn put(folder: Option<&Path>, key: &[u8], value: &[u8]) {
    let Some(folder) = folder else { return };
    let mut body = (key.len() as u64).to_le_bytes().to_vec();
    body.extend_from_slice(key);
    body.extend_from_slice(value);
    let bytes = [MAGIC, &digest(&body).to_le_bytes(), &body].concat();
    let to = file(folder, key);
    let temporary = to.with_extension(format!("{}.new", process::id()));
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&temporary, bytes));
    if written.and_then(|()| fs::rename(&temporary, &to)).is_err() {
        let _ = fs::remove_file(&temporary);
    }
}

#[cfg(test)]
mod tests;
