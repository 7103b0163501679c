//! The parsers of data sets, applied to bytes in memory, for fuzzing. `path` only names the input in messages.
//!
//! Each function returns the error that loading such a file would return, and discards what was parsed.

use crate::config::LabelKind;
use crate::readers::{celeba, cifar, idx, npz, stl, svhn};
use jempp_formats::npz::Npz;
use jempp_formats::place::Place;
use jempp_formats::unpack::Unpack;
use jempp_formats::{Result, stream};
use std::io::Cursor;
use std::path::Path;

/// What files may unpack to here: little, so that bounds on memory show.
fn small() -> Unpack {
    Unpack::bytes(1 << 16)
}

fn reader(bytes: &[u8]) -> stream::MaybeGz<&[u8]> {
    stream::MaybeGz::new(bytes, bytes.starts_with(&[0x1f, 0x8b]), bytes.len() as u64, small())
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
    svhn::parse(&Place::file(path), &mut { bytes }, (bytes.len() as u64, small())).map(drop)
}

/// Parses a NumPy archive as a data set.
///
/// # Errors
/// Those of loading such a file.
pub fn npz_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let bytes: std::sync::Arc<[u8]> = bytes.into();
    npz::read(path, &mut |path| {
        let length = bytes.len() as u64;
        Npz::of(path, Box::new(Cursor::new(std::sync::Arc::clone(&bytes))), length, small())
    })
    .map(drop)
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
    crate::folder::rgb_of(path, bytes, Unpack::bytes(1 << 19)).map(drop)
}

/// Parses a table of labels of images.
///
/// # Errors
/// Those of loading such a file.
pub fn label_table(path: &Path, bytes: &[u8]) -> Result<()> {
    crate::folder::label_table(path, bytes).map(drop)
}

/// Parses the two files of a part of STL-10, the labels after the last whole image.
///
/// # Errors
/// Those of loading such files.
pub fn stl_files(path: &Path, bytes: &[u8]) -> Result<()> {
    let at = bytes.len() / 27_648 * 27_648;
    stl::parse([path; 2], bytes[..at].to_vec(), &bytes[at..]).map(drop)
}
