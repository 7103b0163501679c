//! What the readers of all formats give, and what they share.

use crate::reading::Reading;
use jempp_formats::place::Place;
use jempp_formats::{Error, Result};
use serde::{Deserialize, Serialize};

/// What was found and how to read it.
pub(super) struct Work {
    /// Changes when a file does.
    pub stamp: u64,
    /// Reads it.
    pub read: Box<Read>,
}

pub(super) type Read = dyn FnOnce(&mut Reading<'_>) -> Result<Source>;

/// How many images are for what; they lie in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Parts {
    /// For training.
    pub train: usize,
    /// For validation, where the data set says so itself.
    pub valid: usize,
    /// For the final judgement.
    pub test: usize,
}

impl Parts {
    /// All of them.
    pub fn total(self) -> usize {
        [self.valid, self.test].iter().fold(self.train, |n, m| n.saturating_add(*m))
    }
}

/// A data set as read from its files.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    /// What kind of data set it is, for a person.
    pub kind: String,
    /// Height, width and channels.
    pub size: [usize; 3],
    pub classes: usize,
    /// Names of the classes, or none.
    pub class_names: Vec<String>,
    pub images: Vec<u8>,
    pub labels: Vec<u16>,
    pub parts: Parts,
    /// What is worth worrying about.
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
    /// All in a row; memory is taken once.
    pub fn join(all: Vec<Self>) -> Self {
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

/// The label in `value`, if it is below `classes`.
pub(super) fn label(value: i64, classes: usize) -> Option<u16> {
    u16::try_from(value).ok().filter(|l| usize::from(*l) < classes)
}

/// The error of a label out of range.
pub(super) fn wrong_label(place: &Place, value: i64, i: usize, classes: usize) -> Error {
    place.unfit(format!(
        "label {value} of image {i} is not one of the {classes} classes, 0 to {}",
        classes - 1
    ))
}

/// Images of `size` from C×H×W planes to H×W×C, appended to `out`.
pub(super) fn planes(image: &[u8], out: &mut Vec<u8>) {
    let n = image.len() / 3;
    let (r, rest) = image.split_at(n);
    let (g, b) = rest.split_at(n);
    let start = out.len();
    out.resize(start + 3 * n, 0);
    for (o, ((r, g), b)) in out[start..].chunks_exact_mut(3).zip(r.iter().zip(g).zip(b)) {
        (o[0], o[1], o[2]) = (*r, *g, *b);
    }
}
