//! Data sets in the forms in which people have them, told apart by what is there.
//!
//! Invariants: a file is taken for hostile. Memory is bounded by 64 times the bytes of the files and 1 MiB, whatever they
//! claim; an error names the file and, in it, the member or the place; nothing is written and nothing is run.

pub(crate) mod celeba;
pub(crate) mod cifar;
pub(crate) mod idx;
mod known;
pub(crate) mod npz;
mod resize;
pub(crate) mod svhn;

#[cfg(test)]
mod tests;

pub use resize::bilinear;

use super::cache::Digest;
use super::source::Source;
use super::{Reading, folder};
use crate::config::{Crop, DataConfig, LabelKind};
use jempp_formats::stream;
use jempp_formats::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What was found and how to read it.
pub(super) struct Work {
    /// Changes when a file does.
    pub stamp: u64,
    /// Reads it.
    pub read: Box<Read>,
}

type Read = dyn FnOnce(&mut Reading<'_>) -> Result<Source>;

/// What a configuration says of how to read.
#[derive(Clone, Debug)]
pub(super) struct Options {
    labels: LabelKind,
    extra: bool,
    crop: Crop,
    attribute: String,
}

impl Options {
    /// Those of a configuration.
    pub fn of(config: &DataConfig) -> Self {
        let (labels, extra, crop) = (config.labels, config.extra, config.crop);
        Self { labels, extra, crop, attribute: config.attribute.clone() }
    }

    /// What tells cached data sets of one path apart; empty for the defaults.
    pub fn key(&self) -> String {
        let mut parts = Vec::new();
        if self.labels == LabelKind::Coarse {
            parts.push("coarse labels".to_owned());
        }
        if self.extra {
            parts.push("extra".into());
        }
        if self.crop == Crop::Compat39 {
            parts.push("39×32".into());
        }
        if !self.attribute.is_empty() {
            parts.push(format!("label {}", self.attribute));
        }
        parts.join(", ")
    }
}

/// Folders that archives unpack to, and where torchvision puts files.
const INSIDE: [&str; 9] = [
    "cifar-10-batches-bin",
    "cifar-10-batches-py",
    "cifar-100-binary",
    "cifar-100-python",
    "MNIST/raw",
    "FashionMNIST/raw",
    "raw",
    "celeba",
    "svhn",
];

/// Archives that are looked for in a folder.
const ARCHIVES: [&str; 4] = [
    "cifar-10-binary.tar.gz",
    "cifar-10-python.tar.gz",
    "cifar-100-binary.tar.gz",
    "cifar-100-python.tar.gz",
];

/// Finds out what data set is at `root`.
///
/// # Errors
/// [`Error::Data`] when there is none, or several.
pub(super) fn find(root: &Path, options: &Options, threads: usize) -> Result<Work> {
    if root.is_file() {
        return file(root, options, threads);
    }
    if !root.is_dir() {
        return folder::work(root, threads);
    }
    if let Some(work) = in_folder(root, options)? {
        return Ok(work);
    }
    // An image folder may stand beside others' files: it is what has been read from a folder ever since.
    if root.join("train").is_dir() {
        return folder::work(root, threads);
    }
    let inner: Vec<PathBuf> = INSIDE.iter().map(|n| root.join(n)).filter(|p| p.is_dir()).collect();
    let mut found = Vec::new();
    for path in inner {
        found.extend(in_folder(&path, options)?.map(|work| (path, work)));
    }
    if found.is_empty() {
        let archives = ARCHIVES.iter().map(|n| root.join(n)).filter(|p| p.is_file());
        for path in archives {
            let work = cifar::archive(&path, options)?;
            found.push((path, work));
        }
    }
    if found.len() > 1 {
        let all = found.iter().map(|(p, _)| p.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(Error::Data(format!("{}: holds several data sets; name one of {all}", root.display())));
    }
    match found.pop() {
        Some((_, work)) => Ok(work),
        None => folder::work(root, threads),
    }
}

/// The data set whose files lie in a folder.
fn in_folder(root: &Path, options: &Options) -> Result<Option<Work>> {
    if let Some(version) = cifar::find(root) {
        return cifar::folder(root, version, options).map(Some);
    }
    if svhn::find(root) {
        return svhn::work(root, options).map(Some);
    }
    if let Some(files) = npz::find(root) {
        return npz::pair(files).map(Some);
    }
    if let Some(images) = celeba::find(root) {
        return celeba::work(root, images, options).map(Some);
    }
    idx::find(root)?.map(idx::work).transpose()
}

/// The data set that a file is, or belongs to.
fn file(path: &Path, options: &Options, threads: usize) -> Result<Work> {
    let parent = path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    if name.ends_with(".mat") {
        return svhn::work(parent, options);
    }
    if name.contains("idx1-ubyte") || name.contains("idx3-ubyte") {
        if let Some(files) = idx::find(parent)? {
            return idx::work(files);
        }
        let why = "an IDX data set has four files: images and labels, for training (train) and test (t10k)";
        return Err(Error::Data(format!("{}: {why}", path.display())));
    }
    if stream::starts_with(path, b"PK") {
        return npz::single(path);
    }
    if stream::is_gz(path) || name.ends_with(".tar") || name.ends_with(".tar.gz") || name.ends_with(".tgz") {
        return cifar::archive(path, options);
    }
    folder::work(path, threads)
}

/// Changes when one of these files does.
fn stamp(files: &[PathBuf]) -> Result<u64> {
    let mut digest = Digest::new();
    for path in files {
        let about = fs::metadata(path).map_err(|e| Error::io(path, e))?;
        let modified = about.modified().map_err(|e| Error::io(path, e))?;
        let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        digest.add(path.file_name().unwrap_or_default().as_encoded_bytes());
        digest.add(&about.len().to_le_bytes());
        digest.add(&since.as_nanos().to_le_bytes());
    }
    Ok(digest.0)
}

/// Names of what is in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = entries.map_err(|e| Error::io(folder, e))?;
    let mut names: Vec<String> =
        entries.iter().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}
