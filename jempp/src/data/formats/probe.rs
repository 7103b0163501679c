//! The parsers by name, for tests that feed them mutated bytes.

use super::{cifar, idx, npz, stream, svhn};
use crate::config::LabelKind;
use crate::data::source::Place;
use crate::error::Result;
use crate::npz::Npz;
use crate::pickle::{Pairs, Pickle, numpy};
use std::io::Cursor;
use std::path::Path;

/// A parser of bytes that are taken for hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parser {
    /// [`crate::pickle`], with the arrays in it.
    Pickle,
    /// A tar archive of CIFAR, packed or not.
    Archive,
    /// An IDX file.
    Idx,
    /// A MATLAB file of SVHN.
    Mat,
    /// A NumPy archive.
    Npz,
}

impl Parser {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pickle, Self::Archive, Self::Idx, Self::Mat, Self::Npz];

    /// Parses `bytes`, and drops what comes out.
    ///
    /// # Errors
    /// Whatever is wrong with them.
    pub fn run(self, bytes: &[u8]) -> Result<()> {
        let place = Place::file(Path::new("bytes"));
        let (length, packed) = (bytes.len() as u64, bytes.starts_with(&[0x1f, 0x8b]));
        match self {
            Self::Pickle => {
                let pickle = Pickle::read(bytes).map_err(|e| place.damaged(e))?;
                for (key, value) in pickle.root().as_pairs().into_iter().flat_map(Pairs::iter) {
                    let _ = (key.kind(), value.kind(), numpy::array(value), numpy::integers(value, 3));
                }
                Ok(())
            }
            Self::Archive => {
                let mut from = stream::Maybe::new(bytes, packed, length);
                cifar::unpack(&place, &mut from, LabelKind::Fine)?.finish(&place, Vec::new()).map(drop)
            }
            Self::Idx => {
                let mut from = stream::Maybe::new(bytes, packed, length);
                let most = from.left();
                idx::parse(&place, &mut from, 3, most).map(drop)
            }
            Self::Npz => {
                let path = Path::new("bytes");
                npz::read(Npz::of(path, Cursor::new(bytes), length)?, path).map(drop)
            }
            Self::Mat => svhn::parse(&place, &mut { bytes }, length).map(drop),
        }
    }
}
