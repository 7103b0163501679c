//! IDX files, the format of MNIST (LeCun et al., 1998), Fashion-MNIST and similar data sets, with or without gzip.
//!
//! Source: <http://yann.lecun.com/exdb/mnist>. Big-endian: two zero bytes, the type (8: unsigned bytes), the number of
//! dimensions, the dimensions, the values.

use super::known;
use crate::digest::stamp;
use crate::folder::entries;
use crate::source::{Labelled, Parts, Source, Work, renumber, renumbered};
use jempp_formats::place::{Place, at_end};
use jempp_formats::stream::{self, MaybeGz, Summed};
use jempp_formats::unpack::Unpack;
use jempp_formats::{Error, Result};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The files of a data set: training images, training labels, test images, test labels.
pub(crate) type Files = [PathBuf; 4];

/// The IDX files in a folder, if there are all four.
///
/// # Errors
/// [`Error::Data`] when there are files of several data sets; [`Error::Io`].
pub(crate) fn find(folder: &Path) -> Result<Option<Files>> {
    let all = sets(folder)?;
    match &all[..] {
        [(_, files)] => Ok(Some(files.clone())),
        [] => Ok(None),
        several => {
            let first = several.iter().map(|(_, files)| files[0].display().to_string()).collect::<Vec<_>>();
            Err(Error::Data(format!(
                "{}: contains several data sets; name a file of the one that is meant: {}",
                folder.display(),
                first.join(", ")
            )))
        }
    }
}

/// The files of the data set that a file belongs to.
///
/// # Errors
/// [`Error::Data`] when one is missing; [`Error::Io`].
pub(crate) fn of(path: &Path) -> Result<Files> {
    let parent = path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let wanted = role(&name).map(|(set, ..)| set);
    let found = sets(parent)?.into_iter().find(|(set, _)| wanted.as_ref() == Some(set));
    found.map(|(_, files)| files).ok_or_else(|| {
        let why = "an IDX data set has four files: images and labels, for training (train) and test (t10k)";
        Error::Data(format!("{}: {why}", path.display()))
    })
}

/// The data sets in a folder that have all four files, by what their names share.
fn sets(folder: &Path) -> Result<Vec<(String, Files)>> {
    let mut sets: BTreeMap<String, [Option<PathBuf>; 4]> = BTreeMap::new();
    for entry in entries(folder)? {
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        // Some archives unpack to folders of the files' names.
        let Some((set, test, labels)) = role(&name).filter(|_| path.is_file()) else { continue };
        let place = &mut sets.entry(set).or_default()[2 * usize::from(test) + usize::from(labels)];
        // Of a file and its compressed version one is enough.
        if place.as_ref().is_none_or(|p| p.extension().is_some_and(|e| e == "gz")) {
            *place = Some(path);
        }
    }
    let whole = |(set, files): (String, [Option<PathBuf>; 4])| {
        let files: Vec<PathBuf> = files.into_iter().flatten().collect();
        files.try_into().ok().map(|files| (set, files))
    };
    Ok(sets.into_iter().filter_map(whole).collect())
}

/// What a file's name says: the rest of it, by which the files of a data set belong together, and whether it is of the test
/// part and of labels.
fn role(name: &str) -> Option<(String, bool, bool)> {
    let name = name.to_lowercase();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    if !plain.ends_with("ubyte") {
        return None;
    }
    let labels = match (plain.contains("idx3"), plain.contains("idx1")) {
        (true, false) => false,
        (false, true) => true,
        _ => return None,
    };
    let part = ["t10k", "train", "test"].into_iter().find(|p| plain.contains(p))?;
    let rest = ["images", "labels", "idx3", "idx1"]
        .iter()
        .fold(plain.replacen(part, "", 1), |n, w| n.replacen(w, "", 1));
    let rest: String = rest.chars().filter(|c| c.is_alphanumeric()).collect();
    Some((rest, part != "train", labels))
}

/// Prepares reading of the files.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn work(files: Files, unpack: Unpack) -> Result<Work> {
    let stamp = stamp(&files)?;
    Ok(Work { stamp, read: Box::new(move |_| read(&files, unpack)) })
}

fn read(files: &Files, unpack: Unpack) -> Result<Source> {
    let mut sums = Vec::new();
    let mut parts = Vec::new();
    let mut size = [0; 3];
    for pair in files.chunks_exact(2) {
        let (images, labels) = (array(&pair[0], 3, unpack)?, array(&pair[1], 1, unpack)?);
        let here = [images.shape[1], images.shape[2], 1];
        let place = Place::file(&pair[0]);
        if size != [0; 3] && size != here {
            return Err(place.unfit(format!("images of {here:?}, but those for training are {size:?}")));
        }
        size = here;
        let (n, m) = (images.shape[0], labels.shape[0]);
        if n != m || images.bytes.is_empty() {
            return Err(
                place.unfit(format!("{n} images of {here:?}, but {m} labels in {}", pair[1].display()))
            );
        }
        sums.extend([images.sum, labels.sum]);
        let labels = labels.bytes.into_iter().map(u16::from).collect();
        parts.push(Labelled { images: images.bytes, labels });
    }
    let (train, total) = (parts[0].labels.len(), parts[0].labels.len() + parts[1].labels.len());
    let mut all = Labelled::join(parts);
    let (classes, mut class_names) = renumber(&mut all.labels);
    let kind = format!("IDX files ({}){}", known::verdict(&sums), renumbered(&class_names));
    if kind.contains("Fashion-MNIST, all") {
        class_names = FASHION.map(String::from).to_vec();
    }
    Ok(Source {
        kind,
        size,
        classes,
        class_names,
        images: all.images,
        labels: all.labels,
        parts: Parts { train, valid: 0, test: total - train },
        warnings: Vec::new(),
    })
}

/// The classes of Fashion-MNIST (Xiao et al., 2017).
const FASHION: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

struct Array {
    shape: Vec<usize>,
    bytes: Vec<u8>,
    sum: String,
}

/// Reads a file with an array of `dims` dimensions.
fn array(path: &Path, dims: usize, unpack: Unpack) -> Result<Array> {
    let place = Place::file(path);
    let (file, length) = Summed::open(path)?;
    let mut from = MaybeGz::new(file, stream::is_gz(path), length, unpack);
    let most = from.left();
    let (shape, bytes) = parse(&place, &mut from, dims, most)?;
    let sum = from.into_inner().finish(path)?;
    Ok(Array { shape, bytes, sum })
}

/// Parses an IDX file of at most `most` bytes with `dims` dimensions: shape and values.
pub(crate) fn parse(
    place: &Place,
    from: &mut impl Read,
    dims: usize,
    most: u64,
) -> Result<(Vec<usize>, Vec<u8>)> {
    let mut word = || {
        let mut b = [0; 4];
        from.read_exact(&mut b).map_err(|e| place.read_error(e))?;
        Ok::<_, Error>(b)
    };
    let [zero, zero2, kind, n] = word()?;
    if (zero, zero2) != (0, 0) {
        return Err(place.damaged("is not an IDX file: it must start with two zero bytes"));
    }
    if kind != 8 || usize::from(n) != dims {
        return Err(place
            .unfit(format!("holds type {kind:#x} in {n} dimensions; expected are bytes (0x8) in {dims}")));
    }
    let mut shape = Vec::new();
    for _ in 0..dims {
        shape.push(u32::from_be_bytes(word()?) as usize);
    }
    let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n as u64 <= most);
    let Some(count) = count else {
        let why = format!(
            "claims shape {shape:?}, more than the {most} bytes that it may unpack to; it is damaged, or a larger \
             data.unpack_limit lets it in"
        );
        return Err(place.unfit(why));
    };
    let mut bytes = Vec::with_capacity(count);
    from.by_ref().take(count as u64).read_to_end(&mut bytes).map_err(|e| place.read_error(e))?;
    if bytes.len() < count {
        let at = 4 + 4 * dims + bytes.len();
        return Err(place.damaged(format!("is cut short at byte {at}: shape {shape:?} takes {count} values")));
    }
    at_end(place, from)?;
    Ok((shape, bytes))
}
