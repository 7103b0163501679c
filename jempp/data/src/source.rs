//! The result of a reader, and helpers that readers share.

use crate::reading::Reading;
use jempp_formats::place::Place;
use jempp_formats::{Error, Result};
use serde::{Deserialize, Serialize};

/// A data set that was found but not yet read.
pub(super) struct Work {
    /// Digest of the files, which changes when one of them does.
    pub stamp: u64,
    /// Reads the data set.
    pub read: Box<Read>,
}

/// A function that reads a data set.
pub(super) type Read = dyn FnOnce(&mut Reading<'_>) -> Result<Source>;

/// Numbers of images in the parts of a data set, which follow each other in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Parts {
    /// Training images.
    pub train: usize,
    /// Validation images, if the data set defines them.
    pub valid: usize,
    /// Test images.
    pub test: usize,
}

impl Parts {
    /// Number of all images.
    pub(crate) fn total(self) -> usize {
        [self.valid, self.test].iter().fold(self.train, |n, m| n.saturating_add(*m))
    }
}

/// The name of the only class of images without labels.
pub(super) const UNLABELLED: &str = "unlabelled";

/// Whether the name of a class is a number: a label of a data set without names.
pub(super) fn is_number(name: &str) -> bool {
    !name.is_empty() && name.len() < 20 && name.bytes().all(|b| b.is_ascii_digit())
}

/// Numbers labels anew where some numbers below the highest are not used, as with labels from 1 on: returns the number of
/// classes and, if that was done, their names, which are the labels that there were.
pub(super) fn renumber(labels: &mut [u16]) -> (usize, Vec<String>) {
    let mut used: Vec<u16> = labels.to_vec();
    used.sort_unstable();
    used.dedup();
    if used.iter().enumerate().all(|(i, l)| i == usize::from(*l)) {
        return (used.len(), Vec::new());
    }
    for l in labels {
        *l = used.partition_point(|u| u < l) as u16;
    }
    (used.len(), used.iter().map(u16::to_string).collect())
}

/// The description of labels that were numbered anew, for that of a data set; empty if they were not.
pub(super) fn renumbered(names: &[String]) -> String {
    let shown = match names {
        [] => return String::new(),
        [first, second, _, .., last] => format!("{first}, {second}, …, {last}"),
        few => few.join(", "),
    };
    format!(", labels {shown} numbered anew")
}

/// A data set as read from its files.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    /// Description of the format, for the user.
    pub kind: String,
    /// Height, width and channels.
    pub size: [usize; 3],
    pub classes: usize,
    /// Names of the classes; empty if unknown.
    pub class_names: Vec<String>,
    pub images: Vec<u8>,
    pub labels: Vec<u16>,
    pub parts: Parts,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// Images of one size with their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Labelled {
    /// N×H×W×C.
    pub images: Vec<u8>,
    pub labels: Vec<u16>,
}

impl Labelled {
    /// Concatenates all; memory is allocated once.
    pub(crate) fn join(all: Vec<Self>) -> Self {
        if all.len() == 1 {
            return all.into_iter().next().unwrap_or_default();
        }
        let images = Vec::with_capacity(all.iter().map(|l| l.images.len()).sum());
        let labels = Vec::with_capacity(all.iter().map(|l| l.labels.len()).sum());
        all.into_iter().fold(Self { images, labels }, |mut joined, mut more| {
            joined.images.append(&mut more.images);
            joined.labels.append(&mut more.labels);
            joined
        })
    }
}

/// Converts `value` to a label, if it is below `classes`.
pub(super) fn label(value: i64, classes: usize) -> Option<u16> {
    u16::try_from(value).ok().filter(|l| usize::from(*l) < classes)
}

/// The error of a label that is out of range.
pub(super) fn wrong_label(place: &Place, value: i64, i: usize, classes: usize) -> Error {
    place.unfit(format!(
        "label {value} of image {i} is not one of the {classes} classes, 0 to {}",
        classes - 1
    ))
}

/// Converts an RGB image from planes (C×H×W) to H×W×C and appends it to `out`.
pub(super) fn push_interleaved(image: &[u8], out: &mut Vec<u8>) {
    let n = image.len() / 3;
    let (r, rest) = image.split_at(n);
    let (g, b) = rest.split_at(n);
    let start = out.len();
    out.resize(start + 3 * n, 0);
    for (o, ((r, g), b)) in out[start..].chunks_exact_mut(3).zip(r.iter().zip(g).zip(b)) {
        (o[0], o[1], o[2]) = (*r, *g, *b);
    }
}
