//! The parsers of data sets, applied to bytes in memory, for fuzzing. `path` only names the input in messages.
//!
//! Each function returns the error that loading such a file would return, and discards what was parsed.

use crate::config::LabelKind;
use crate::readers::{celeba, cifar, idx, npz, svhn};
use jempp_formats::npz::Npz;
use jempp_formats::place::Place;
use jempp_formats::{Result, stream};
use std::io::Cursor;
use std::path::Path;

fn reader(bytes: &[u8]) -> stream::MaybeGz<&[u8]> {
    stream::MaybeGz::new(bytes, bytes.starts_with(&[0x1f, 0x8b]), bytes.len() as u64)
}

/// Parses a tar archive of CIFAR-10 or CIFAR-100, gzip-compressed or not.
///
/// # Errors
/// Those of loading such a file.
pub fn cifar_archive(path: &Path, bytes: &[u8]) -> Result<()> {
    let place = Place::file(path);
    cifar::unpack(&place, &mut reader(bytes), LabelKind::Fine)?.finish(&place, Vec::new()).map(drop)
}

/// Parses an IDX file (MNIST) of three dimensions, gzip-compressed or not.
///
/// # Errors
/// Those of loading such a file.
pub fn idx_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut from = reader(bytes);
    let most = from.left();
    idx::parse(&Place::file(path), &mut from, 3, most).map(drop)
}

/// Parses a MATLAB file of SVHN.
///
/// # Errors
/// Those of loading such a file.
pub fn svhn_file(path: &Path, bytes: &[u8]) -> Result<()> {
    svhn::parse(&Place::file(path), &mut { bytes }, bytes.len() as u64).map(drop)
}

/// Parses a NumPy archive as a data set.
///
/// # Errors
/// Those of loading such a file.
pub fn npz_file(path: &Path, bytes: &[u8]) -> Result<()> {
    npz::read(Npz::of(path, Cursor::new(bytes), bytes.len() as u64)?, path).map(drop)
}

/// Parses one of CelebA's text files.
///
/// # Errors
/// Those of loading such a file.
pub fn celeba_lists(path: &Path, bytes: &[u8]) -> Result<()> {
    celeba::lists(path, bytes)
}

/// Decodes an image file of a folder data set.
///
/// # Errors
/// Those of loading such a file.
pub fn image_file(path: &Path, bytes: &[u8]) -> Result<()> {
    crate::folder::rgb_of(path, bytes).map(drop)
}
