//! Data sets in folders of images: `train/CLASS/*.{png,jpg,jpeg}` and `test/CLASS/*`.
//!
//! Invariant: the result depends on the files only, not on threads or on the order in which the system lists them.

mod decode;
mod list;

#[cfg(test)]
mod tests;

use crate::reading::Reading;
use crate::source::{Parts, Source, Work};
use jempp_formats::Result;
use std::path::Path;

pub(super) use decode::{afford, rgb, rgb_of};
use list::Listing;
pub(super) use list::class_files;

/// Lists the data set in the folder `root`.
///
/// # Errors
/// [`jempp_formats::Error::Data`] naming what is missing or misplaced; [`jempp_formats::Error::Io`].
pub(super) fn work(root: &Path, threads: usize) -> Result<Work> {
    let listing = list::list(root, threads)?;
    Ok(Work { stamp: listing.digest, read: Box::new(move |reading| read(&listing, reading)) })
}

fn read(listing: &Listing, reading: &mut Reading<'_>) -> Result<Source> {
    let (size, images) = decode::decode(&listing.files, reading.threads, &mut reading.progress)?;
    let (n, train) = (listing.files.len(), listing.train);
    Ok(Source {
        kind: "image folder".into(),
        size,
        classes: listing.classes.len(),
        class_names: listing.classes.clone(),
        images,
        labels: listing.files.iter().map(|f| f.label).collect(),
        parts: Parts { train, valid: 0, test: n - train },
        warnings: Vec::new(),
    })
}
