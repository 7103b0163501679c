//! Data sets in NumPy archives: `images` and `labels`, in one file or in `train.npz` and `test.npz`.

use crate::digest::stamp;
use crate::mt19937;
use crate::source::{Labelled, Parts, Source, Work, label, wrong_label};
use jempp_formats::npz::Npz;
use jempp_formats::place::Place;
use jempp_formats::{Error, Result};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

/// Members with training, test and validation images: jempp's names, and those of Keras and MedMNIST.
const TRAIN: [[&str; 2]; 3] =
    [["images", "labels"], ["x_train", "y_train"], ["train_images", "train_labels"]];
const TEST: [[&str; 2]; 2] = [["test_images", "test_labels"], ["x_test", "y_test"]];
const VALID: [[&str; 2]; 1] = [["val_images", "val_labels"]];
/// Without test images, one in this many images is held out for test.
const TEST_EVERY: usize = 10;
/// Largest number of classes.
const MOST: usize = 1 << 16;

/// The files `train.npz` and `test.npz` in a folder, if there are both.
pub(crate) fn find(folder: &Path) -> Option<[PathBuf; 2]> {
    let files = ["train.npz", "test.npz"].map(|f| folder.join(f));
    files.iter().all(|f| f.is_file()).then_some(files)
}

/// Prepares reading of two files.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn pair(files: [PathBuf; 2]) -> Result<Work> {
    let stamp = stamp(&files)?;
    let read = move || {
        let mut parts = Vec::new();
        for path in &files {
            let mut npz = Npz::open(path)?;
            parts.push(part(&mut npz, path, TRAIN[0])?);
        }
        let (train, test) = (parts[0].1.labels.len(), parts[1].1.labels.len());
        finish(&files[0], parts, Parts { train, valid: 0, test }, Vec::new())
    };
    Ok(Work { stamp, read: Box::new(move |_| read()) })
}

/// Prepares reading of one file.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn single(path: &Path) -> Result<Work> {
    let path = path.to_path_buf();
    let stamp = stamp(std::slice::from_ref(&path))?;
    Ok(Work { stamp, read: Box::new(move |_| read(Npz::open(&path)?, &path)) })
}

/// Reads the data set in an open archive.
///
/// # Errors
/// [`Error::Data`] or [`Error::Format`] when it is unsuitable or damaged; [`Error::Io`].
pub(crate) fn read<R: Read + Seek>(mut npz: Npz<R>, path: &Path) -> Result<Source> {
    let has = |npz: &Npz<R>, names: [&str; 2]| npz.has(names[0]);
    let Some(train) = TRAIN.into_iter().find(|n| has(&npz, *n)) else {
        let there = npz.names().join(", ");
        let why = format!("a data set has the members `images` and `labels`; this archive has: {there}");
        return Err(Place::file(path).unfit(why));
    };
    let mut all = vec![part(&mut npz, path, train)?];
    let mut parts = Parts { train: all[0].1.labels.len(), ..Parts::default() };
    if let Some(valid) = VALID.into_iter().find(|n| has(&npz, *n)) {
        all.push(part(&mut npz, path, valid)?);
        parts.valid = all[1].1.labels.len();
    }
    let mut warnings = Vec::new();
    if let Some(test) = TEST.into_iter().find(|n| has(&npz, *n)) {
        let test = part(&mut npz, path, test)?;
        parts.test = test.1.labels.len();
        all.push(test);
    } else {
        parts.test = parts.train.div_ceil(TEST_EVERY);
        parts.train -= parts.test;
        if parts.train == 0 {
            return Err(Place::file(path).unfit("a single image is not a data set"));
        }
        all[0].1 = shuffled(&all[0]);
        warnings.push(format!(
            "{} has no test images (`test_images`, `test_labels`): a fixed random selection of {} of its images is \
             held out for test",
            path.display(),
            parts.test
        ));
    }
    finish(path, all, parts, warnings)
}

/// Images and their size.
type Sized = ([usize; 3], Labelled);

/// The images in a fixed random order, so that the last ones are a random sample.
fn shuffled((size, all): &Sized) -> Labelled {
    let pixels: usize = size.iter().product();
    let mut out = Labelled {
        images: Vec::with_capacity(all.images.len()),
        labels: Vec::with_capacity(all.labels.len()),
    };
    for i in mt19937::numpy_permutation(1234, all.labels.len()) {
        out.labels.push(all.labels[i]);
        out.images.extend_from_slice(&all.images[i * pixels..(i + 1) * pixels]);
    }
    out
}

/// Reads the images of one part and their labels.
fn part<R: Read + Seek>(npz: &mut Npz<R>, path: &Path, [images, labels]: [&str; 2]) -> Result<Sized> {
    let (shape, bytes) = npz.u8(images)?;
    let place = Place::file(path).member(images);
    let (n, size) = match *shape.as_slice() {
        [n, h, w] => (n, [h, w, 1]),
        [n, h, w, c @ (1 | 3)] => (n, [h, w, c]),
        _ => {
            return Err(
                place.unfit(format!("its shape is {shape:?}, but must be N×H×W or N×H×W×C with C 1 or 3"))
            );
        }
    };
    if bytes.is_empty() {
        return Err(place.unfit(format!("its shape {shape:?} contains no image")));
    }
    let (shape, values) = npz.i64(labels)?;
    let place = Place::file(path).member(labels);
    if shape != [n] && shape != [n, 1] {
        return Err(place.unfit(format!("its shape is {shape:?}, but there are {n} images")));
    }
    let read = |(i, v): (usize, i64)| label(v, MOST).ok_or_else(|| wrong_label(&place, v, i, MOST));
    let labels = values.into_iter().enumerate().map(read).collect::<Result<_, Error>>()?;
    Ok((size, Labelled { images: bytes, labels }))
}

fn finish(path: &Path, all: Vec<Sized>, parts: Parts, warnings: Vec<String>) -> Result<Source> {
    let size = all[0].0;
    if let Some((other, _)) = all.iter().find(|(s, _)| *s != size) {
        return Err(
            Place::file(path).unfit(format!("images of {size:?} and of {other:?} do not form one data set"))
        );
    }
    let all = Labelled::join(all.into_iter().map(|(_, l)| l).collect());
    let highest = all.labels.iter().max().copied().unwrap_or_default();
    Ok(Source {
        kind: "NumPy archive".into(),
        size,
        classes: usize::from(highest) + 1,
        class_names: Vec::new(),
        images: all.images,
        labels: all.labels,
        parts,
        warnings,
    })
}
