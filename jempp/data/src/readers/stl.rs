//! STL-10 (Coates et al., 2011), binary version: `train_X.bin`, `train_y.bin`, `test_X.bin`, `test_y.bin`, `class_names.txt`.
//!
//! Source: <https://cs.stanford.edu/~acoates/stl10>. Images of 96×96 pixels, each three planes in column-major order; labels 1
//! to 10. The unlabelled images are not read.

use crate::digest::stamp;
use crate::source::{Labelled, Parts, Source, Work};
use jempp_formats::place::Place;
use jempp_formats::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

const FILES: [&str; 4] = ["train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"];
const NAMES: &str = "class_names.txt";
const SIDE: usize = 96;
const CLASSES: usize = 10;
/// The classes in the order of their labels, for folders without the file of their names.
const USUAL: [&str; CLASSES] =
    ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"];

/// The files, if a folder contains the data set.
pub(crate) fn find(folder: &Path) -> Option<[PathBuf; 4]> {
    let files = FILES.map(|f| folder.join(f));
    files.iter().all(|f| f.is_file()).then_some(files)
}

/// Prepares reading of the files.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn work(files: [PathBuf; 4]) -> Result<Work> {
    let names = files[0].with_file_name(NAMES);
    let mut all = files.to_vec();
    all.extend(names.is_file().then(|| names.clone()));
    let stamp = stamp(&all)?;
    Ok(Work { stamp, read: Box::new(move |_| read(&files, &names)) })
}

fn read(files: &[PathBuf; 4], names: &Path) -> Result<Source> {
    let bytes = |path: &PathBuf| fs::read(path).map_err(|e| Error::io(path, e));
    let mut parts = Vec::new();
    for pair in files.chunks_exact(2) {
        parts.push(parse([&pair[0], &pair[1]], bytes(&pair[0])?, &bytes(&pair[1])?)?);
    }
    let counts = [parts[0].labels.len(), parts[1].labels.len()];
    let Labelled { images, labels } = Labelled::join(parts);
    let text = fs::read_to_string(names).unwrap_or_default();
    let listed: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let usual = || USUAL.map(str::to_owned).to_vec();
    Ok(Source {
        kind: "STL-10".into(),
        size: [SIDE, SIDE, 3],
        classes: CLASSES,
        class_names: if listed.len() == CLASSES { listed } else { usual() },
        images,
        labels,
        parts: Parts { train: counts[0], valid: 0, test: counts[1] },
        warnings: Vec::new(),
    })
}

/// The images and labels in the content of two files. Images are turned in place.
///
/// # Errors
/// [`Error::Data`] when the files do not match; [`Error::Format`] when they are damaged.
pub(crate) fn parse([images, labels]: [&Path; 2], mut bytes: Vec<u8>, y: &[u8]) -> Result<Labelled> {
    let (place, pixels) = (Place::file(images), SIDE * SIDE * 3);
    if bytes.is_empty() || !bytes.len().is_multiple_of(pixels) {
        return Err(place.damaged(format!("its {} bytes are not whole images of {pixels}", bytes.len())));
    }
    let n = bytes.len() / pixels;
    if y.len() != n {
        return Err(place.unfit(format!("{n} images, but {} labels in {}", y.len(), labels.display())));
    }
    let label = |(i, v): (usize, &u8)| match *v {
        v @ 1..=10 => Ok(u16::from(v) - 1),
        v => Err(Place::file(labels).unfit(format!("label {v} of image {i} is not one of 1 to 10"))),
    };
    let labels = y.iter().enumerate().map(label).collect::<Result<_, Error>>()?;
    let mut turned = vec![0; pixels];
    for image in bytes.chunks_exact_mut(pixels) {
        for (k, v) in image.iter().enumerate() {
            let (channel, x, y) = (k / (SIDE * SIDE), k / SIDE % SIDE, k % SIDE);
            turned[(y * SIDE + x) * 3 + channel] = *v;
        }
        image.copy_from_slice(&turned);
    }
    Ok(Labelled { images: bytes, labels })
}
