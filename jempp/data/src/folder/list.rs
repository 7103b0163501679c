//! Listing of image folders: `train/CLASS/*` and `test/CLASS/*`.
//!
//! Invariants: classes and files are sorted by the bytes of their names, in whatever order the system lists them; a
//! file is never skipped silently unless it is hidden or left behind by a file browser.

use crate::digest::Digest;
use crate::spread::spread;
use jempp_formats::files::hint;
use jempp_formats::{Error, Result};
use std::ffi::OsString;
use std::fs::{self, DirEntry, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Supported file extensions, in lower case.
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];
/// The supported formats as messages state them.
pub(super) const SUPPORTED: &str = "supported are PNG and JPEG (.png, .jpg, .jpeg)";
/// Files that file browsers leave behind; they are skipped, as are hidden files.
const LITTER: [&str; 2] = ["thumbs.db", "desktop.ini"];

/// An image file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The path.
    pub path: PathBuf,
    /// The class.
    pub label: u16,
    /// Size in bytes when the file was listed.
    pub length: u64,
}

/// The files of a data set: those of `train` by class, then those of `test`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// All files.
    pub files: Vec<Entry>,
    /// Number of training images, which come first.
    pub train: usize,
    /// A digest of the names, sizes and modification times of all files.
    pub digest: u64,
}

/// A file in a listing.
pub(crate) struct Item {
    /// The name.
    pub name: OsString,
    /// Size in bytes.
    pub size: u64,
    modified: i128,
}

impl Item {
    /// Adds the name, size and modification time to a digest.
    pub(crate) fn add_to(&self, digest: &mut Digest) {
        digest.add(self.name.as_encoded_bytes());
        digest.add(&self.size.to_le_bytes());
        digest.add(&self.modified.to_le_bytes());
    }
}

/// Lists the data set in `root` on `threads` threads.
///
/// # Errors
/// [`Error::Data`] naming the folder or file that is missing, empty or misplaced; [`Error::Io`].
pub(super) fn list(root: &Path, threads: usize) -> Result<Listing> {
    check_root(root)?;
    let [train, test] = ["train", "test"].map(|part| part_of(root, part));
    let (train, test) = (train?, test?);
    let names = class_folders(&train)?;
    if names.len() < 2 || names.len() > 1 << 16 {
        let n = names.len();
        return fail(&train, &format!("has {n} class folders; a data set has 2 to 65536"));
    }
    let mut folders: Vec<(PathBuf, u16)> = Vec::new();
    for (i, name) in names.iter().enumerate() {
        folders.push((train.join(name), i as u16));
    }
    for name in class_folders(&test)? {
        let Ok(i) = names.binary_search(&name) else {
            let why = format!("is a class without training images in {}", train.display());
            return fail(&test.join(name), &why);
        };
        folders.push((test.join(name), i as u16));
    }
    if folders.len() == names.len() {
        return fail(&test, "has no class folders with images");
    }
    let lists = spread(threads, folders.len(), |i| class_files(&folders[i].0), &mut |_| {})?;
    let mut digest = Digest::new();
    let mut files = Vec::with_capacity(lists.iter().map(Vec::len).sum());
    let mut count = 0;
    for (k, ((folder, label), items)) in folders.iter().zip(lists).enumerate() {
        digest.add(if k < names.len() { b"train" } else { b"test" });
        digest.add(names[usize::from(*label)].as_encoded_bytes());
        for item in items {
            item.add_to(&mut digest);
            files.push(Entry { path: folder.join(item.name), label: *label, length: item.size });
        }
        if k + 1 == names.len() {
            count = files.len();
        }
    }
    let classes = names.iter().map(|n| n.to_string_lossy().into_owned()).collect();
    Ok(Listing { classes, files, train: count, digest: digest.0 })
}

fn check_root(root: &Path) -> Result<()> {
    match fs::metadata(root) {
        Ok(about) if about.is_dir() => Ok(()),
        Ok(_) => fail(root, "is a file; a data set is a folder with train/CLASS/ and test/CLASS/"),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            let bare = root.components().count() == 1;
            let more = if bare { "; the only built-in data set is `digits`" } else { "" };
            let shown = root.display();
            Err(Error::Data(format!("data set \"{shown}\": there is no such folder{}{more}", hint(root))))
        }
        Err(e) => Err(Error::io(root, e)),
    }
}

/// The folder `train` or `test`, which must exist.
fn part_of(root: &Path, part: &str) -> Result<PathBuf> {
    let path = root.join(part);
    if path.is_dir() {
        return Ok(path);
    }
    let mut there: Vec<String> = Vec::new();
    for e in entries(root)? {
        there.push(e.file_name().to_string_lossy().into_owned());
    }
    there.sort();
    let more = if there.len() > 8 { ", …" } else { "" };
    there.truncate(8);
    let there = if there.is_empty() { "nothing".to_string() } else { there.join(", ") };
    fail(
        root,
        &format!(
            "has no folder `{part}`; a data set is a folder with train/CLASS/ and test/CLASS/; this one \
             contains {there}{more}"
        ),
    )
}

/// Sorted names of the class folders in a part.
fn class_folders(part: &Path) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in entries(part)? {
        let name = entry.file_name();
        if about(&entry)?.is_dir() {
            names.push(name);
        } else if supported(&name) {
            let why = format!("is not in a class folder; images belong in {}/CLASS/", part.display());
            return fail(&entry.path(), &why);
        }
    }
    names.sort();
    Ok(names)
}

/// The images of a class, sorted by name.
///
/// # Errors
/// [`Error::Data`] if there are none, or other files or folders; [`Error::Io`].
pub(crate) fn class_files(folder: &Path) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for entry in entries(folder)? {
        let (name, about) = (entry.file_name(), about(&entry)?);
        if about.is_dir() {
            return fail(&entry.path(), "is a folder inside a class folder, which may contain images only");
        }
        if !supported(&name) {
            return fail(&entry.path(), &format!("is of an unsupported format; {SUPPORTED}"));
        }
        let modified = about.modified().map_err(|e| Error::io(entry.path(), e))?;
        items.push(Item { name, size: about.len(), modified: nanoseconds(modified) });
    }
    if items.is_empty() {
        return fail(folder, &format!("is a class without images; {SUPPORTED}"));
    }
    items.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(items)
}

/// The entries of a folder, sorted, without hidden files and those in [`LITTER`].
fn entries(folder: &Path) -> Result<Vec<DirEntry>> {
    let all = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<DirEntry>>>);
    let mut all = all.map_err(|e| Error::io(folder, e))?;
    all.retain(|e| {
        let name = e.file_name().to_string_lossy().to_lowercase();
        !name.starts_with('.') && !LITTER.contains(&name.as_str())
    });
    // Sorted, so that of several errors always the same is reported.
    all.sort_by_key(DirEntry::file_name);
    Ok(all)
}

/// The metadata of an entry; of the target, for a link.
fn about(entry: &DirEntry) -> Result<Metadata> {
    let about =
        entry.metadata().and_then(|m| if m.is_symlink() { fs::metadata(entry.path()) } else { Ok(m) });
    about.map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::Data(format!("{}: is a broken link", entry.path().display())),
        _ => Error::io(entry.path(), e),
    })
}

fn supported(name: &OsString) -> bool {
    let extension = Path::new(name).extension().unwrap_or_default().to_string_lossy().to_lowercase();
    EXTENSIONS.contains(&extension.as_str())
}

fn nanoseconds(time: SystemTime) -> i128 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(d) => d.as_nanos() as i128,
        Err(e) => -(e.duration().as_nanos() as i128),
    }
}

fn fail<T>(path: &Path, why: &str) -> Result<T> {
    Err(Error::Data(format!("{}: {why}", path.display())))
}
