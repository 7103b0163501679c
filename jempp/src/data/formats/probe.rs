//! The parsers by name, for tests that feed them mutated bytes: of data sets, images, models and configurations.

use super::{celeba, cifar, idx, npz, stream, svhn};
use crate::checkpoint::View;
use crate::config::{Config, LabelKind};
use crate::data::folder;
use crate::data::source::Place;
use crate::error::Result;
use crate::images::image_of;
use crate::infer::Model;
use crate::npz::{Npz, images};
use crate::pickle::{Pairs, Pickle, numpy};
use crate::torch;
use engine::Device;
use std::io::Cursor;
use std::path::Path;
use std::sync::LazyLock;

/// Where models are put.
static CPU: LazyLock<Device> = LazyLock::new(|| Device::cpu(1));

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
    /// A NumPy archive as a data set.
    Npz,
    /// A NumPy archive of images to predict for.
    Inputs,
    /// CelebA's lists.
    Lists,
    /// A PNG, as an image of a data set and as one to predict for.
    Png,
    /// The same of a JPEG.
    Jpeg,
    /// A GIF to predict for.
    Gif,
    /// A zip archive of `torch.save`: all tensors in it, and the model.
    Torch,
    /// The same of the form before PyTorch 1.6.
    Legacy,
    /// Means or covariances of PyTorch.
    Moments,
    /// A safetensors file: all tensors, and the model with what it carries.
    Safetensors,
    /// A configuration.
    Toml,
}

impl Parser {
    /// What the bytes' file is called in messages.
    pub const FILE: &str = "some/file";
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Pickle,
        Self::Archive,
        Self::Idx,
        Self::Mat,
        Self::Npz,
        Self::Inputs,
        Self::Lists,
        Self::Png,
        Self::Jpeg,
        Self::Gif,
        Self::Torch,
        Self::Legacy,
        Self::Moments,
        Self::Safetensors,
        Self::Toml,
    ];

    /// Parses `bytes`, and drops what comes out.
    ///
    /// # Errors
    /// Whatever is wrong with them.
    pub fn run(self, bytes: &[u8]) -> Result<()> {
        let path = Path::new(Self::FILE);
        let place = Place::file(path);
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
            Self::Mat => svhn::parse(&place, &mut { bytes }, length).map(drop),
            Self::Npz => npz::read(Npz::of(path, Cursor::new(bytes), length)?, path).map(drop),
            Self::Inputs => images(Npz::of(path, Cursor::new(bytes), length)?).map(drop),
            Self::Lists => celeba::lists(path, bytes),
            Self::Png | Self::Jpeg => {
                let decoded = folder::rgb_of(path, bytes).map(drop);
                either(decoded, || image_of(path, bytes, SIZE).map(drop))
            }
            Self::Gif => image_of(path, bytes, SIZE).map(drop),
            Self::Torch | Self::Legacy => {
                let all = torch::tensors(bytes, path).map(drop);
                either(all, || torch::model(bytes, path, torch::Hints::default()).map(drop))
            }
            Self::Moments => torch::floats((bytes, path)).map(drop),
            Self::Safetensors => {
                let view = View::of_bytes(bytes.to_vec(), path)?;
                view.container(&view.names())?;
                if !view.meta.contains_key("format") {
                    return Ok(());
                }
                let model = Model::from_view(&CPU, view)?;
                model.bank().map(drop)
            }
            Self::Toml => {
                let text = str::from_utf8(bytes).map_err(|e| place.unfit(e))?;
                Config::from_sources("digits", Some((text, Self::FILE)), &[])?.to_toml().map(drop)
            }
        }
    }
}

/// Height, width and channels of the images in the tests.
const SIZE: [usize; 3] = [7, 9, 3];

/// Fine if one of two readings is; an error that is not of the bytes is never hidden.
fn either(one: Result<()>, other: impl FnOnce() -> Result<()>) -> Result<()> {
    match (one, other()) {
        (Ok(()), other) if other.as_ref().is_err_and(|e| !matches!(e.exit_code(), 3 | 6)) => other,
        (Err(e), Ok(())) if matches!(e.exit_code(), 3 | 6) => Ok(()),
        (one, _) => one,
    }
}
