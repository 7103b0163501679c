//! The parts of an image folder and the labels of its images.
//!
//! Invariants: a part is read whole or, with a warning, not at all; classes are sorted by the bytes of their names, numbers by
//! value; files by the bytes of theirs within a class.

use super::Options;
use super::labels::{self, Table};
use super::list::{Content, Item, check_root, class_files, fail};
use crate::digest::{Digest, stamp};
use crate::source::{Parts, UNLABELLED, is_number};
use crate::spread::spread;
use jempp_formats::Result;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// The names that the folders of the three parts may have, in lower case.
const PARTS: [&[&str]; 3] = [&["train", "training"], &["val", "valid", "validation"], &["test", "testing"]];
/// The table of labels in TinyImageNet's folder `val`.
const ANNOTATIONS: &str = "val_annotations.txt";
/// What messages say of layouts.
const LAYOUT: &str = "a data set is a folder with train/CLASS/ and test/CLASS/ (and val/CLASS/), with CLASS/ only, or of \
                      images without classes";

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

/// The files of a data set: those for training, for validation and for test, each by class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// All files.
    pub files: Vec<Entry>,
    /// Numbers of files of the parts.
    pub parts: Parts,
    /// A digest of the names and versions of all files.
    pub digest: u64,
    /// Description of the layout.
    pub kind: String,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// The images of a part, with their classes where they have some.
struct Part {
    folder: PathBuf,
    rows: Vec<(Option<String>, Item)>,
}

impl Part {
    fn is_labelled(&self) -> bool {
        self.rows.iter().all(|(class, _)| class.is_some())
    }
}

/// Lists the data set in `root` on `threads` threads.
///
/// # Errors
/// [`jempp_formats::Error::Data`] naming the folder or file that is missing, empty or misplaced;
/// [`jempp_formats::Error::Io`].
pub(super) fn list(root: &Path, options: &Options, threads: usize) -> Result<Listing> {
    check_root(root)?;
    let content = Content::of(root)?;
    let mut digest = Digest::new();
    let table = root_table(root, &content, options)?;
    if let Some(path) = &table {
        digest.add(&stamp(std::slice::from_ref(path))?.to_le_bytes());
    }
    let table = table.map(|path| labels::read(&path).map(|t| (path, t))).transpose()?;
    let folders = part_folders(root, &content)?;
    let mut warnings = Vec::new();
    let mut parts: [Option<Part>; 3] = Default::default();
    if folders.iter().all(Option::is_none) {
        parts[0] = Some(whole(root, content, table.as_ref(), threads, &mut warnings)?);
    }
    for (place, folder) in parts.iter_mut().zip(folders) {
        let Some(folder) = folder else { continue };
        let own = folder.join(ANNOTATIONS);
        let own = own.is_file().then(|| labels::read(&own).map(|t| (own, t))).transpose()?;
        let content = Content::of(&folder)?;
        *place = Some(part(&folder, content, own.as_ref().or(table.as_ref()), threads, &mut warnings)?);
    }
    leave_out_unlabelled(&mut parts, &mut warnings);
    if parts[2].is_none()
        && parts[0].is_some()
        && let Some(valid) = parts[1].take()
    {
        let (n, name) = (valid.rows.len(), valid.folder.display());
        warnings.push(format!("there is no test part: the {n} images in {name} are the test images"));
        parts[2] = Some(valid);
    }
    let named = table.map(|(path, _)| path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    assemble(parts, digest, named, warnings)
}

/// The folders of the three parts.
fn part_folders(root: &Path, content: &Content) -> Result<[Option<PathBuf>; 3]> {
    let mut out: [Option<PathBuf>; 3] = Default::default();
    for name in &content.folders {
        let lower = name.to_string_lossy().to_lowercase();
        let Some(i) = PARTS.iter().position(|names| names.contains(&lower.as_str())) else { continue };
        if let Some(before) = out[i].replace(root.join(name)) {
            let why = format!("is the same part of the data set as {}", before.display());
            return fail(&root.join(name), &why);
        }
    }
    Ok(out)
}

/// The table of labels that is named, or the only one in the folder with a name that says so.
fn root_table(root: &Path, content: &Content, options: &Options) -> Result<Option<PathBuf>> {
    if !options.labels_csv.is_empty() {
        let inside = root.join(&options.labels_csv);
        return Ok(Some(if inside.exists() { inside } else { options.labels_csv.clone().into() }));
    }
    let says_so = |p: &&PathBuf| {
        let stem = p.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
        p.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"))
            && (stem.contains("label") || stem == "train" || stem == "annotations")
    };
    let found: Vec<&PathBuf> = content.others.iter().filter(says_so).collect();
    match found[..] {
        [_, other, ..] => fail(
            other,
            &format!("is a table of labels beside {}: name one with data.labels_csv", found[0].display()),
        ),
        _ => Ok(found.first().map(|p| (*p).clone())),
    }
}

/// The images of a folder without parts.
fn whole(
    root: &Path,
    content: Content,
    table: Option<&(PathBuf, Table)>,
    threads: usize,
    warnings: &mut Vec<String>,
) -> Result<Part> {
    if content.images.is_empty() && content.folders.is_empty() {
        let mut there: Vec<String> = content
            .others
            .iter()
            .filter_map(|p| p.file_name().map(|n| n.to_string_lossy().into_owned()))
            .collect();
        let more = if there.len() > 8 { ", …" } else { "" };
        there.truncate(8);
        let there = if there.is_empty() { "nothing".to_string() } else { there.join(", ") };
        return fail(
            root,
            &format!("has no folder `train` and no images; {LAYOUT}; this one contains {there}{more}"),
        );
    }
    let inside = |e| match e {
        jempp_formats::Error::Data(why) => jempp_formats::Error::Data(format!("{why}; {LAYOUT}")),
        e => e,
    };
    part(root, content, table, threads, warnings).map_err(inside)
}

/// The images of a part: in class folders, or all in its folder or a folder `images` in it.
fn part(
    folder: &Path,
    content: Content,
    table: Option<&(PathBuf, Table)>,
    threads: usize,
    warnings: &mut Vec<String>,
) -> Result<Part> {
    let flat = |rows| Part { folder: folder.to_path_buf(), rows };
    if content.images.is_empty() && content.folders == ["images"] {
        return Ok(flat(label_rows(class_files(&folder.join("images"))?, table)?));
    }
    if content.folders.is_empty() {
        if content.images.is_empty() {
            return fail(folder, "has no class folders and no images");
        }
        let others: Vec<&PathBuf> = content.others.iter().filter(|p| !is_text(p)).collect();
        if let Some(first) = others.first() {
            let more =
                if others.len() > 1 { format!(" and {} more", others.len() - 1) } else { String::new() };
            warnings.push(format!("{}{more}: no image, and not read", first.display()));
        }
        return Ok(flat(label_rows(content.images, table)?));
    }
    if let Some(stray) = content.images.first() {
        let why = format!("is not in a class folder; images belong in {}/CLASS/", folder.display());
        return fail(&stray.path, &why);
    }
    let n = content.folders.len();
    let lists = spread(threads, n, |i| class_files(&folder.join(&content.folders[i])), &mut |_| {})?;
    let named = content.folders.iter().map(|n| n.to_string_lossy().into_owned()).zip(lists);
    Ok(flat(
        named.flat_map(|(name, items)| items.into_iter().map(move |i| (Some(name.clone()), i))).collect(),
    ))
}

/// Whether a file is a note or table that belongs beside images.
fn is_text(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    ["txt", "csv", "tsv", "json", "md", "yaml", "yml", "pdf"].contains(&ending.as_str())
}

/// Images with the labels of a table; without labels if it has none of them.
fn label_rows(items: Vec<Item>, table: Option<&(PathBuf, Table)>) -> Result<Vec<(Option<String>, Item)>> {
    let label = |i: &Item| table.and_then(|(_, t)| t.get(&i.path)).map(str::to_owned);
    let rows: Vec<_> = items.into_iter().map(|i| (label(&i), i)).collect();
    let missing = rows.iter().filter(|(l, _)| l.is_none()).count();
    match (table, rows.iter().find(|(l, _)| l.is_none())) {
        (Some((path, _)), Some((_, first))) if missing < rows.len() => {
            let name = first.path.file_name().unwrap_or_default().to_string_lossy();
            fail(path, &format!("has no row for {name}, nor for {} other images", missing - 1))
        }
        _ => Ok(rows),
    }
}

/// Where some parts have labels, drops those that have none.
fn leave_out_unlabelled(parts: &mut [Option<Part>; 3], warnings: &mut Vec<String>) {
    if !parts.iter().flatten().any(Part::is_labelled) {
        return;
    }
    for place in parts {
        if let Some(part) = place.take_if(|p| !p.is_labelled()) {
            let (n, folder) = (part.rows.len(), part.folder.display());
            warnings.push(format!("the {n} images in {folder} have no labels and are left out"));
        }
    }
}

/// Sorted names of classes: numbers by value, others by bytes.
fn class_names(parts: &[Option<Part>; 3], folders: bool) -> Result<Vec<String>> {
    let train = parts[0].as_ref();
    let of = |p: &Part| p.rows.iter().filter_map(|(c, _)| c.clone()).collect::<BTreeSet<String>>();
    let names: BTreeSet<String> = match train {
        Some(part) => of(part),
        None => parts.iter().flatten().flat_map(of).collect(),
    };
    if let Some(train) = train
        && folders
        && !names.is_empty()
        && !(2..=1 << 16).contains(&names.len())
        && PARTS[0].iter().any(|n| train.folder.ends_with(n))
    {
        let n = names.len();
        fail(&train.folder, &format!("has {n} class folders; a data set has 2 to 65536"))?;
    }
    let mut names: Vec<String> = names.into_iter().collect();
    if names.len() > 1 << 16 {
        let n = names.len();
        fail(
            &parts.iter().flatten().next().map_or_else(PathBuf::new, |p| p.folder.clone()),
            &format!("has {n} classes; at most 65536 are possible"),
        )?;
    }
    if !folders && names.iter().all(|n| is_number(n)) {
        names.sort_by_key(|n| n.parse::<u64>().unwrap_or(u64::MAX));
    }
    Ok(names)
}

/// Numbers the classes and joins the parts.
fn assemble(
    parts: [Option<Part>; 3],
    mut digest: Digest,
    table: Option<String>,
    warnings: Vec<String>,
) -> Result<Listing> {
    let mut names = class_names(&parts, table.is_none())?;
    let kind = match (&table, names.is_empty()) {
        (_, true) => "images without labels".to_owned(),
        (None, _) => "image folder".to_owned(),
        (Some(table), _) => format!("images with labels of {table}"),
    };
    if names.is_empty() {
        names.push(UNLABELLED.to_owned());
    }
    let train = parts[0].as_ref().map(|p| p.folder.display().to_string()).unwrap_or_default();
    let index: HashMap<&str, u16> = (0..).zip(&names).map(|(i, n)| (n.as_str(), i)).collect();
    let mut files = Vec::new();
    let mut counts = [0; 3];
    for ((part, count), word) in parts.into_iter().zip(&mut counts).zip(["train", "valid", "test"]) {
        let Some(part) = part else { continue };
        digest.add(word.as_bytes());
        for (class, item) in part.rows {
            let class = class.unwrap_or_else(|| UNLABELLED.to_owned());
            digest.add(class.as_bytes());
            item.add_to(&mut digest);
            let Some(label) = index.get(class.as_str()).copied() else {
                let inner = part.folder.join(&class);
                let at = if inner.is_dir() { inner } else { item.path };
                return fail(&at, &format!("is a class without training images in {train}"));
            };
            files.push(Entry { path: item.path, label, length: item.size });
            *count += 1;
        }
    }
    let parts = Parts { train: counts[0], valid: counts[1], test: counts[2] };
    Ok(Listing { classes: names, files, parts, digest: digest.0, kind, warnings })
}
