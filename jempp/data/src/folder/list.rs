//! Listing of folders: which of their files are images.
//!
//! Invariants: names are sorted by their bytes, in whatever order the system lists them; what file browsers, archives and
//! notebooks leave behind is neither an image nor a class; nothing else is skipped silently.

use crate::digest::{Digest, Version};
use jempp_formats::codecs::{SUPPORTED, is_named};
use jempp_formats::files::hint;
use jempp_formats::{Error, Result};
use std::ffi::OsString;
use std::fs::{self, DirEntry, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What is left behind by file browsers, archives, network storage and notebooks, in lower case; hidden files are too.
const LITTER: [&str; 8] = [
    "thumbs.db",
    "desktop.ini",
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "__pycache__",
    "lost+found",
];

/// A file in a listing.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// The path.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
    version: Version,
}

impl Item {
    /// Adds the name and version to a digest.
    pub(crate) fn add_to(&self, digest: &mut Digest) {
        digest.add(self.path.file_name().unwrap_or_default().as_encoded_bytes());
        self.version.add_to(digest);
    }
}

/// What a folder of images contains.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Its folders.
    pub folders: Vec<OsString>,
    /// Its images.
    pub images: Vec<Item>,
    /// Its other files.
    pub others: Vec<PathBuf>,
}

impl Content {
    /// Lists a folder.
    ///
    /// # Errors
    /// [`Error::Data`] naming a broken link; [`Error::Io`].
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let mut out = Self::default();
        for entry in entries(folder)? {
            let (path, about) = (entry.path(), about(&entry)?);
            if about.is_dir() {
                out.folders.push(entry.file_name());
            } else if is_named(&path) {
                let version = Version::of(&path, &about)?;
                out.images.push(Item { path, size: about.len(), version });
            } else {
                out.others.push(path);
            }
        }
        Ok(out)
    }
}

/// The images of a class, sorted by name: in its folder or, as in TinyImageNet, in a folder `images` in it.
///
/// # Errors
/// [`Error::Data`] if there are none, or other files or folders; [`Error::Io`].
pub(crate) fn class_files(folder: &Path) -> Result<Vec<Item>> {
    let content = Content::of(folder)?;
    if content.images.is_empty() && content.folders == ["images"] {
        return class_files(&folder.join("images"));
    }
    if let Some(inner) = content.folders.first() {
        return fail(&folder.join(inner), "is a folder inside a class folder, which may contain images only");
    }
    if let Some(other) = content.others.first() {
        return fail(other, &format!("is of an unsupported format; {SUPPORTED}"));
    }
    if content.images.is_empty() {
        return fail(folder, &format!("is a class without images; {SUPPORTED}"));
    }
    Ok(content.images)
}

/// Checks that `root` is a folder.
///
/// # Errors
/// [`Error::Data`] if it is a file or does not exist, with what the user may have meant; [`Error::Io`].
pub(super) fn check_root(root: &Path) -> Result<()> {
    match fs::metadata(root) {
        Ok(about) if about.is_dir() => Ok(()),
        Ok(_) => {
            let start = fs::File::open(root).and_then(|mut f| {
                let mut start = [0; 512];
                std::io::Read::read(&mut f, &mut start).map(|n| start[..n].to_vec())
            });
            let kind = jempp_formats::kind::of(&start.unwrap_or_default()).with_article();
            fail(
                root,
                &format!(
                    "is a file, {kind}; a data set is a folder with train/CLASS/ and test/CLASS/, an .npz, .npy or IDX \
                     file or one of the published archives (docs/data.md)"
                ),
            )
        }
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            let bare = root.components().count() == 1;
            let more = if bare { "; the only built-in data set is `digits`" } else { "" };
            let shown = root.display();
            Err(Error::Data(format!("data set \"{shown}\": there is no such folder{}{more}", hint(root))))
        }
        Err(e) => Err(Error::io(root, e)),
    }
}

/// The entries of a folder, sorted, without hidden files and those in [`LITTER`].
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn entries(folder: &Path) -> Result<Vec<DirEntry>> {
    let all = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<DirEntry>>>);
    let mut all = all.map_err(|e| Error::io(folder, e))?;
    all.retain(|e| {
        let name = e.file_name().to_string_lossy().to_lowercase();
        !name.starts_with('.') && !name.starts_with("@__") && !LITTER.contains(&name.as_str())
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

pub(super) fn fail<T>(path: &Path, why: &str) -> Result<T> {
    Err(Error::Data(format!("{}: {why}", path.display())))
}
