//! Readers of published data sets, whose format is detected from the files.
//!
//! Invariants: files are untrusted. Memory is bounded by 64 times the size of the files plus what `data.unpack_limit` allows,
//! whatever they claim; an error names the file and the member or position in it; nothing is written or executed.

mod arrays;
pub(crate) mod celeba;
pub(crate) mod cifar;
pub(crate) mod idx;
mod known;
pub(crate) mod npz;
pub(crate) mod options;
pub(crate) mod stl;
pub(crate) mod svhn;

#[cfg(test)]
mod tests;

use crate::folder;
use crate::source::Work;
use jempp_formats::npz::Npz;
use jempp_formats::stream;
use jempp_formats::{Error, Result};
use options::Options;
use std::path::{Path, PathBuf};

/// Subfolders that are searched: those in archives, and those that torchvision creates.
const SUBFOLDERS: [&str; 11] = [
    "cifar-10-batches-bin",
    "cifar-10-batches-py",
    "cifar-100-binary",
    "cifar-100-python",
    "MNIST/raw",
    "FashionMNIST/raw",
    "raw",
    "celeba",
    "svhn",
    "stl10_binary",
    "gzip",
];

/// Archives that are recognised in a folder.
const ARCHIVES: [&str; 4] = [
    "cifar-10-binary.tar.gz",
    "cifar-10-python.tar.gz",
    "cifar-100-binary.tar.gz",
    "cifar-100-python.tar.gz",
];

/// Detects the data set at `root`.
///
/// # Errors
/// [`Error::Data`] when there is none or more than one, or files are missing; [`Error::Io`].
pub(super) fn find(root: &Path, options: &Options, threads: usize) -> Result<Work> {
    if root.is_file() {
        return file(root, options, threads);
    }
    if !root.is_dir() {
        return folder::work(root, options.folder(), threads);
    }
    if let Some(work) = in_folder(root, options)? {
        return Ok(work);
    }
    // An image folder takes precedence over archives and subfolders beside it, as in all previous versions.
    if root.join("train").is_dir() {
        return folder::work(root, options.folder(), threads);
    }
    let inner: Vec<PathBuf> = SUBFOLDERS.iter().map(|n| root.join(n)).filter(|p| p.is_dir()).collect();
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
        return Err(Error::Data(format!(
            "{}: contains several data sets; name one of {all}",
            root.display()
        )));
    }
    match found.pop() {
        Some((_, work)) => Ok(work),
        None => folder::work(root, options.folder(), threads),
    }
}

/// Detects a data set whose files are directly in a folder.
fn in_folder(root: &Path, options: &Options) -> Result<Option<Work>> {
    if let Some(version) = cifar::find(root) {
        return cifar::folder(root, version, options).map(Some);
    }
    if svhn::find(root) {
        return svhn::work(root, options).map(Some);
    }
    if let Some(files) = stl::find(root) {
        return stl::work(files).map(Some);
    }
    if let Some(work) = npz::find(root, options.unpack)? {
        return Ok(Some(work));
    }
    if let Some(images) = celeba::find(root) {
        return celeba::work(root, images, options).map(Some);
    }
    idx::find(root)?.map(|files| idx::work(files, options.unpack)).transpose()
}

/// Detects the data set that a file is or belongs to.
fn file(path: &Path, options: &Options, threads: usize) -> Result<Work> {
    let parent = path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    if name.ends_with(".mat") {
        return svhn::work(parent, options);
    }
    if name.contains("idx1-ubyte") || name.contains("idx3-ubyte") {
        return idx::work(idx::of(path)?, options.unpack);
    }
    if let Some(files) = stl::find(parent).filter(|_| name.ends_with("_x.bin") || name.ends_with("_y.bin")) {
        return stl::work(files);
    }
    if stream::starts_with(path, b"\x93NUMPY") {
        return npz::single(path, options.unpack);
    }
    if stream::starts_with(path, b"PK") {
        return match Npz::open_with(path, options.unpack)?.names().is_empty() {
            false => npz::single(path, options.unpack),
            true => Err(Error::Data(format!(
                "{}: is a zip archive without NumPy arrays; unpack it, and name the folder of images",
                path.display()
            ))),
        };
    }
    if stream::is_gz(path) || name.ends_with(".tar") || name.ends_with(".tar.gz") || name.ends_with(".tgz") {
        return cifar::archive(path, options);
    }
    folder::work(path, options.folder(), threads)
}
