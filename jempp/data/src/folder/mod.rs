//! Data sets in folders of images, with a folder per class or without classes.
//!
//! Invariant: the result depends on the files only, not on threads or on the order in which the system lists them.

mod decode;
mod labels;
mod list;
mod parts;

#[cfg(test)]
mod tests;

use crate::reading::Reading;
use crate::source::{Source, Work};
use jempp_formats::Result;
use jempp_formats::resize::Resize;
use jempp_formats::unpack::Unpack;
use std::path::Path;

pub(super) use decode::{afford, rgb, rgb_of};
pub(super) use labels::table as label_table;
pub(super) use list::{class_files, entries};

/// How a folder is read.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    /// A table of the images' labels; empty: one that is found in the folder.
    pub labels_csv: String,
    /// What images are scaled to.
    pub resize: Option<Resize>,
    /// What files may unpack to.
    pub unpack: Unpack,
}

/// Lists the data set in the folder `root`.
///
/// # Errors
/// [`jempp_formats::Error::Data`] naming what is missing or misplaced; [`jempp_formats::Error::Io`].
pub(super) fn work(root: &Path, options: Options, threads: usize) -> Result<Work> {
    let listing = parts::list(root, &options, threads)?;
    let stamp = listing.digest;
    let read = move |reading: &mut Reading<'_>| {
        let decoding = decode::Decoding { resize: options.resize, unpack: options.unpack };
        let (size, images) =
            decode::decode(&listing.files, &decoding, reading.threads, &mut reading.progress)?;
        Ok(Source {
            kind: listing.kind,
            size,
            classes: listing.classes.len(),
            class_names: listing.classes,
            images,
            labels: listing.files.iter().map(|f| f.label).collect(),
            parts: listing.parts,
            warnings: listing.warnings,
        })
    };
    Ok(Work { stamp, read: Box::new(read) })
}
