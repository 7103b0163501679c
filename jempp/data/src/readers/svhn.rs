//! SVHN, cropped digits (Netzer et al., 2011): `train_32x32.mat`, `test_32x32.mat` and `extra_32x32.mat`.
//!
//! Source: <http://ufldl.stanford.edu/housenumbers>. `X` has H×W×C×N bytes, and `y` the labels 1 to 10, where 10 is the
//! digit 0.

use super::known;
use super::options::Options;
use crate::digest::stamp;
use crate::source::{Labelled, Parts, Source, Work};
use jempp_formats::mat;
use jempp_formats::place::Place;
use jempp_formats::stream::Summed;
use jempp_formats::unpack::Unpack;
use jempp_formats::{Error, Result};
use std::io::BufReader;
use std::path::{Path, PathBuf};

const CLASSES: usize = 10;
/// The files; the last is optional.
const FILES: [&str; 3] = ["train_32x32.mat", "test_32x32.mat", "extra_32x32.mat"];

/// Whether a folder contains the data set or a part of it.
pub(crate) fn find(folder: &Path) -> bool {
    folder.join(FILES[0]).is_file() || folder.join(FILES[1]).is_file()
}

/// Lists the data set in a folder.
///
/// # Errors
/// [`Error::Data`] when a file is missing; [`Error::Io`].
pub(crate) fn work(folder: &Path, options: &Options) -> Result<Work> {
    let [train, test, extra] = FILES.map(|f| folder.join(f));
    let files: Vec<PathBuf> = if options.extra { vec![train, extra, test] } else { vec![train, test] };
    if let Some(gone) = files.iter().find(|f| !f.is_file()) {
        let why = format!("{}: SVHN without its file {}", folder.display(), gone.display());
        return Err(Error::Data(why));
    }
    let (stamp, unpack) = (stamp(&files)?, options.unpack);
    Ok(Work { stamp, read: Box::new(move |_| read(&files, unpack)) })
}

fn read(files: &[PathBuf], unpack: Unpack) -> Result<Source> {
    let mut sums = Vec::new();
    let mut all = Vec::new();
    let mut size = None;
    for path in files {
        let place = Place::file(path);
        let (file, length) = Summed::open(path)?;
        let mut from = BufReader::with_capacity(1 << 16, file);
        let (here, images) = parse(&place, &mut from, (length, unpack))?;
        if size.is_some_and(|s| s != here) {
            return Err(place.unfit(format!("has images of {here:?}, but those for training are {size:?}")));
        }
        size = Some(here);
        all.push(images);
        sums.push(from.into_inner().finish(path)?);
    }
    let test = all.last().map_or(0, |l| l.labels.len());
    let all = Labelled::join(all);
    let parts = Parts { train: all.labels.len() - test, valid: 0, test };
    let extra = if files.len() > 2 { " with extra" } else { "" };
    Ok(Source {
        kind: format!("SVHN{extra} ({})", known::verdict(&sums)),
        size: size.unwrap_or_default(),
        classes: CLASSES,
        class_names: Vec::new(),
        images: all.images,
        labels: all.labels,
        parts,
        warnings: Vec::new(),
    })
}

/// Parses a file of so many bytes, which may unpack to so much: size, images and labels.
///
/// # Errors
/// [`Error::Data`] or [`Error::Format`] when it is unsuitable or damaged; [`Error::Io`].
pub(crate) fn parse(
    place: &Place,
    from: &mut impl std::io::BufRead,
    length: (u64, Unpack),
) -> Result<([usize; 3], Labelled)> {
    let (mut x, mut y) = (None, None);
    mat::arrays(place, from, length, &["X", "y"], &mut |a| {
        let place = if a.name == "X" { &mut x } else { &mut y };
        *place = Some(a);
        Ok(())
    })?;
    let (Some(x), Some(y)) = (x, y) else {
        return Err(place.unfit("has no arrays `X` and `y`"));
    };
    // MATLAB drops a trailing dimension of 1.
    let (size, n) = match x.shape.as_slice() {
        [size @ .., n] if size.len() == 3 => (size, *n),
        size => (size, 1),
    };
    let (&[h, w, c], 2, false) = (size, x.kind, x.bytes.is_empty()) else {
        return Err(
            place.unfit(format!("`X` is of type {} and shape {:?}, not H×W×C×N bytes", x.kind, x.shape))
        );
    };
    let values = y.integers();
    if !matches!(c, 1 | 3) || values.len() != n {
        return Err(
            place.unfit(format!("`X` of shape {:?} does not match `y` of shape {:?}", x.shape, y.shape))
        );
    }
    let mut labels = Vec::with_capacity(n);
    for (i, value) in values.enumerate() {
        match value {
            // The digit 0, also if it has been renumbered.
            Some(10) => labels.push(0),
            Some(v @ 0..=9) => labels.push(v as u16),
            other => return Err(place.unfit(format!("label {other:?} of image {i} is not one of 0 to 10"))),
        }
    }
    let mut out = Labelled { images: x.bytes, labels };
    // Each image is contiguous, in column-major order.
    let mut turned = vec![0; h * w * c];
    for image in out.images.chunks_exact_mut(h * w * c) {
        for (k, v) in image.iter().enumerate() {
            turned[(k % h * w + k / h % w) * c + k / (h * w)] = *v;
        }
        image.copy_from_slice(&turned);
    }
    Ok(([h, w, c], out))
}
