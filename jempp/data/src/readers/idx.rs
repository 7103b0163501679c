//! IDX files, the format of MNIST (LeCun et al., 1998), Fashion-MNIST and similar data sets, with or without gzip.
//!
//! Source: <http://yann.lecun.com/exdb/mnist>. Big-endian: two zero bytes, the type (8: unsigned bytes), the number of
//! dimensions, the dimensions, the values.

use super::known;
use crate::digest::stamp;
use crate::source::{Labelled, Parts, Source, Work};
use jempp_formats::place::{Place, at_end};
use jempp_formats::stream::{self, MaybeGz, Summed};
use jempp_formats::{Error, Result};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The files of a data set: training images, training labels, test images, test labels.
pub(crate) type Files = [PathBuf; 4];

/// The IDX files in a folder, if there are all four.
///
/// # Errors
/// [`Error::Data`] when there are files of several data sets; [`Error::Io`].
pub(crate) fn find(folder: &Path) -> Result<Option<Files>> {
    let all = names(folder)?;
    let role = |part: &[&str], what: &str, dims: &str| {
        let is = |n: &&String| {
            let (n, plain) = (n.to_lowercase(), n.trim_end_matches(".gz"));
            part.iter().any(|p| n.contains(p))
                && n.contains(what)
                && n.contains(dims)
                && plain.ends_with("ubyte")
        };
        let mut found: Vec<&String> = all.iter().filter(is).collect();
        // Of a file and its compressed version one is enough.
        found.dedup_by(|b, a| b.strip_suffix(".gz") == Some(a));
        found.into_iter().map(|n| folder.join(n)).collect::<Vec<_>>()
    };
    let mut files = Vec::new();
    for part in [&["train"][..], &["t10k", "test"]] {
        for (what, dims) in [("images", "idx3"), ("labels", "idx1")] {
            let mut found = role(part, what, dims);
            if found.len() > 1 {
                let list = found.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
                return Err(Error::Data(format!("{}: several files of {what}: {list}", folder.display())));
            }
            files.extend(found.pop());
        }
    }
    Ok(files.try_into().ok())
}

/// Sorted names of the entries of a folder.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = entries.map_err(|e| Error::io(folder, e))?;
    let mut names: Vec<String> =
        entries.iter().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Prepares reading of the files.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn work(files: Files) -> Result<Work> {
    let stamp = stamp(&files)?;
    Ok(Work { stamp, read: Box::new(move |_| read(&files)) })
}

fn read(files: &Files) -> Result<Source> {
    let mut sums = Vec::new();
    let mut parts = Vec::new();
    let mut size = [0; 3];
    for pair in files.chunks_exact(2) {
        let (images, labels) = (array(&pair[0], 3)?, array(&pair[1], 1)?);
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
    let all = Labelled::join(parts);
    let highest = all.labels.iter().max().copied().unwrap_or_default();
    let kind = format!("IDX files ({})", known::verdict(&sums));
    let class_names =
        if kind.contains("Fashion-MNIST, all") { FASHION.map(String::from).to_vec() } else { Vec::new() };
    Ok(Source {
        kind,
        size,
        // Ten digits, even if some do not occur.
        classes: usize::from(highest).max(9) + 1,
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
fn array(path: &Path, dims: usize) -> Result<Array> {
    let place = Place::file(path);
    let (file, length) = Summed::open(path)?;
    let mut from = MaybeGz::new(file, stream::is_gz(path), length);
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
        return Err(place.damaged(format!("claims shape {shape:?}, more than the file can hold")));
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
