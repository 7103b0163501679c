//! Data sets in NumPy archives and arrays: one file with all parts, a file for each, or a file for each array.

use super::arrays::{self, Images, Labels, Open};
use crate::digest::stamp;
use crate::folder::entries;
use crate::source::{Labelled, Parts, Source, UNLABELLED, Work, is_number, renumber, renumbered};
use jempp_formats::npz::{Npz, SINGLE};
use jempp_formats::place::Place;
use jempp_formats::unpack::Unpack;
use jempp_formats::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Names of arrays of images, and of their labels: ours, and those of Keras, MedMNIST, ImageNet-32 and other programs.
const TRAIN: [[&str; 2]; 9] = [
    ["images", "labels"],
    ["x_train", "y_train"],
    ["X_train", "y_train"],
    ["train_images", "train_labels"],
    ["data", "labels"],
    ["x", "y"],
    ["X", "y"],
    ["imgs", "labels"],
    [SINGLE, "arr_1"],
];
const TEST: [[&str; 2]; 3] = [["test_images", "test_labels"], ["x_test", "y_test"], ["X_test", "y_test"]];
const VALID: [[&str; 2]; 4] =
    [["val_images", "val_labels"], ["x_val", "y_val"], ["x_valid", "y_valid"], ["X_val", "y_val"]];
/// Largest number of classes.
const MOST: usize = 1 << 16;

/// An array in a file.
#[derive(Clone, Debug)]
struct Member {
    path: PathBuf,
    name: String,
}

/// An array of images and, if there are some, their labels.
type Pair = (Member, Option<Member>);

/// The arrays of the parts.
#[derive(Clone, Debug, Default)]
struct Layout([Vec<Pair>; 3]);

/// Opens a file of arrays.
type Opener<'a> = dyn FnMut(&Path) -> Result<Open> + 'a;

fn opener(unpack: Unpack) -> impl FnMut(&Path) -> Result<Open> {
    move |path| {
        let file = std::fs::File::open(path).and_then(|f| f.metadata().map(|m| (f, m.len())));
        let (file, length) = file.map_err(|e| Error::io(path, e))?;
        Npz::of(path, Box::new(std::io::BufReader::new(file)), length, unpack)
    }
}

/// The arrays in a folder, if it is a data set of them.
///
/// # Errors
/// [`Error::Data`] when it contains several; [`Error::Io`].
pub(crate) fn find(folder: &Path, unpack: Unpack) -> Result<Option<Work>> {
    let names: Vec<String> = entries(folder)?
        .iter()
        .filter(|e| e.path().is_file())
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|n| n.ends_with(".npz") || n.ends_with(".npy"))
        .collect();
    let has = |name: &str| names.iter().any(|n| n == name);
    let files = |names: &[String]| names.iter().map(|n| folder.join(n)).collect::<Vec<_>>();
    if has("train.npz") && has("test.npz") {
        let valid = ["val.npz", "valid.npz"].into_iter().find(|n| has(n));
        return work(
            [&["train.npz"], valid.as_slice(), &["test.npz"]]
                .map(|part| part.iter().map(|n| folder.join(n)).collect()),
            unpack,
        )
        .map(Some);
    }
    let batches: Vec<String> = names.iter().filter(|n| n.starts_with("train_data_batch")).cloned().collect();
    if !batches.is_empty() && has("val_data.npz") {
        return work([files(&batches), Vec::new(), vec![folder.join("val_data.npz")]], unpack).map(Some);
    }
    if let Some(layout) = arrays_beside(folder, &names) {
        return of_layout(layout, "NumPy arrays", unpack).map(Some);
    }
    if has("labels.npy") && names.len() > 1 {
        let all: Vec<&str> = names.iter().filter(|n| *n != "labels.npy").map(String::as_str).collect();
        return Err(Error::Data(format!(
            "{}: contains several arrays of images; name one of {}",
            folder.display(),
            all.join(", ")
        )));
    }
    Ok(None)
}

/// Parts in files of their own: `x_train.npy` and `y_train.npy`, or `…-train-imgs.npz` and `…-train-labels.npz` (KMNIST).
fn arrays_beside(folder: &Path, names: &[String]) -> Option<Layout> {
    let single = |file: String| Member { path: folder.join(file), name: SINGLE.into() };
    let has = |n: &String| names.contains(n);
    let mut layout = Layout::default();
    for (place, pairs) in layout.0.iter_mut().zip([&TRAIN[1..4], &VALID, &TEST]) {
        for [images, labels] in pairs {
            let [images, labels] = [images, labels].map(|n| format!("{n}.npy"));
            if place.is_empty() && has(&images) {
                place.push((single(images), Some(labels).filter(has).map(single)));
            }
        }
    }
    for (place, part) in layout.0.iter_mut().zip(["-train-imgs.npz", "-val-imgs.npz", "-test-imgs.npz"]) {
        if let (true, Some(images)) = (place.is_empty(), names.iter().find(|n| n.ends_with(part))) {
            let labels = images.replace("-imgs.", "-labels.");
            place.push((single(images.clone()), Some(labels).filter(has).map(single)));
        }
    }
    (!layout.0[0].is_empty()).then_some(layout)
}

/// Prepares reading of the files of each part.
fn work(files: [Vec<PathBuf>; 3], unpack: Unpack) -> Result<Work> {
    let stamp = stamp(&files.concat())?;
    let read = move || {
        let mut layout = Layout::default();
        for (place, files) in layout.0.iter_mut().zip(&files) {
            for path in files {
                let names = opener(unpack)(path)?.names();
                place.push(pair(path, &names, &TRAIN).ok_or_else(|| nothing(path, &names))?);
            }
        }
        read_layout(&layout, "NumPy archive", &mut opener(unpack))
    };
    Ok(Work { stamp, read: Box::new(move |_| read()) })
}

fn of_layout(layout: Layout, kind: &'static str, unpack: Unpack) -> Result<Work> {
    let members = layout.0.iter().flatten().flat_map(|(i, l)| [Some(i), l.as_ref()]).flatten();
    let stamp = stamp(&members.map(|m| m.path.clone()).collect::<Vec<_>>())?;
    Ok(Work { stamp, read: Box::new(move |_| read_layout(&layout, kind, &mut opener(unpack))) })
}

/// Prepares reading of one file: an archive; an array with the parts beside it; or an array with `labels.npy` beside it, whose
/// images are for test (CIFAR-10-C).
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn single(path: &Path, unpack: Unpack) -> Result<Work> {
    let parent = path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside: Vec<String> =
        entries(parent)?.iter().filter_map(|e| e.file_name().into_string().ok()).collect();
    if let Some(layout) = arrays_beside(parent, &beside)
        && layout
            .0
            .iter()
            .flatten()
            .any(|(i, l)| i.path.ends_with(&name) || l.as_ref().is_some_and(|l| l.path.ends_with(&name)))
    {
        return of_layout(layout, "NumPy arrays", unpack);
    }
    if name.ends_with(".npy") && name != "labels.npy" && beside.iter().any(|n| n == "labels.npy") {
        let single = |path: PathBuf| Member { path, name: SINGLE.into() };
        let pair = (single(path.to_path_buf()), Some(single(parent.join("labels.npy"))));
        return of_layout(Layout([Vec::new(), Vec::new(), vec![pair]]), "NumPy array, test images", unpack);
    }
    let path = path.to_path_buf();
    let stamp = stamp(std::slice::from_ref(&path))?;
    Ok(Work { stamp, read: Box::new(move |_| read(&path, &mut opener(unpack))) })
}

/// The first of these pairs whose images there are.
fn pair(path: &Path, names: &[String], known: &[[&str; 2]]) -> Option<Pair> {
    let has = |name: &str| names.iter().any(|n| n == name);
    let member = |name: &str| Member { path: path.to_path_buf(), name: name.to_owned() };
    let [images, labels] =
        known.iter().find(|p| has(p[0]) && has(p[1])).or_else(|| known.iter().find(|p| has(p[0])))?;
    Some((member(images), has(labels).then(|| member(labels))))
}

fn nothing(path: &Path, names: &[String]) -> Error {
    let there = if names.is_empty() { "no arrays".to_owned() } else { names.join(", ") };
    let why =
        format!("a data set has the members `images` and `labels` (docs/data.md); this archive has {there}");
    Place::file(path).unfit(why)
}

/// Reads the data set in one file.
///
/// # Errors
/// [`Error::Data`] or [`Error::Format`] when it is unsuitable or damaged; [`Error::Io`].
pub(crate) fn read(path: &Path, open: &mut Opener<'_>) -> Result<Source> {
    let names = open(path)?.names();
    let of = |known: &[[&str; 2]]| pair(path, &names, known).into_iter().collect::<Vec<_>>();
    let layout = Layout([of(&TRAIN), of(&VALID), of(&TEST)]);
    if layout.0[0].is_empty() && layout.0[2].is_empty() {
        return Err(nothing(path, &names));
    }
    read_layout(&layout, "NumPy archive", open)
}

fn read_layout(layout: &Layout, kind: &str, open: &mut Opener<'_>) -> Result<Source> {
    let (mut counts, mut images, mut labels) = ([0; 3], Vec::new(), Vec::new());
    let mut size: Option<[usize; 3]> = None;
    let mut notes = BTreeSet::new();
    for (part, count) in layout.0.iter().zip(&mut counts) {
        for (of_images, of_labels) in part {
            let path = &of_images.path;
            let all: Images = arrays::images(&mut open(path)?, path, &of_images.name)?;
            let n = all.count();
            if let Some(size) = size.filter(|s| *s != all.size) {
                let why = format!("images of {size:?} and of {:?} do not form one data set", all.size);
                return Err(Place::file(path).unfit(why));
            }
            size = Some(all.size);
            *count += n;
            notes.extend(all.note);
            labels.push(match of_labels {
                Some(m) => (m.path.clone(), arrays::labels(&mut open(&m.path)?, &m.path, &m.name, n)?),
                None => (path.clone(), Labels::None(n)),
            });
            images.push(Labelled { images: all.bytes, labels: Vec::new() });
        }
    }
    let (labels, classes, class_names, renumbered) = number(labels)?;
    let notes: String = notes.into_iter().map(|n| format!(", {n}")).collect();
    let kind = format!("{kind}{notes}{renumbered}");
    let parts = Parts { train: counts[0], valid: counts[1], test: counts[2] };
    let (size, images) = (size.unwrap_or_default(), Labelled::join(images).images);
    Ok(Source { kind, size, classes, class_names, images, labels, parts, warnings: Vec::new() })
}

/// The labels of all arrays as numbers of classes, the number and names of these, and a description of numbering anew.
fn number(all: Vec<(PathBuf, Labels)>) -> Result<(Vec<u16>, usize, Vec<String>, String)> {
    let kinds = all.iter().map(|(_, l)| core::mem::discriminant(l)).collect::<Vec<_>>();
    if let Some(i) = kinds.windows(2).position(|w| w[0] != w[1]) {
        let why = "its labels are not of the kind of those of the other part: numbers, strings or none";
        return Err(Place::file(&all[i + 1].0).unfit(why));
    }
    let (mut numbers, mut texts): (Vec<u16>, Vec<String>) = (Vec::new(), Vec::new());
    for (path, labels) in all {
        match labels {
            Labels::None(n) => texts.extend(std::iter::repeat_n(UNLABELLED.to_owned(), n)),
            Labels::Names(names) => texts.extend(names),
            Labels::Integers(values) => {
                for (i, v) in values.into_iter().enumerate() {
                    numbers.push(u16::try_from(v).map_err(|_| {
                        Place::file(&path).unfit(format!(
                            "label {v} of image {i} is not one of the {MOST} classes, 0 to {}",
                            MOST - 1
                        ))
                    })?);
                }
            }
        }
    }
    if texts.is_empty() {
        let (classes, names) = renumber(&mut numbers);
        let said = renumbered(&names);
        return Ok((numbers, classes, names, said));
    }
    let mut names: Vec<String> = texts.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    if names.iter().all(|n| is_number(n)) {
        names.sort_by_key(|n| n.parse::<u64>().unwrap_or(u64::MAX));
    }
    if names.len() > MOST {
        return Err(Error::Data(format!("{} classes; at most {MOST} are possible", names.len())));
    }
    let index: std::collections::HashMap<&str, u16> =
        (0..).zip(&names).map(|(i, n)| (n.as_str(), i)).collect();
    let labels = texts.iter().map(|t| index.get(t.as_str()).copied().unwrap_or_default()).collect();
    let classes = names.len();
    Ok((labels, classes, names, String::new()))
}
