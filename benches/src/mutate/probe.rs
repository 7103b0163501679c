//! The parsers by name, for tests that feed them mutated bytes: data sets, images, models and configurations.

use engine::Device;
use jempp::checkpoint::LazyReader;
use jempp::interop::torch as moments;
use jempp::model::source::ModelSource;
use jempp::model::{Model, published};
use jempp::{Config, Error, Result};
use jempp_data::untrusted;
use jempp_formats::images::image_of;
use jempp_formats::npz::{Npz, images};
use jempp_formats::pickle::{Pairs, Pickle, numpy};
use jempp_formats::place::Place;
use jempp_formats::torch;
use jempp_formats::unpack::Unpack;
use std::io::Cursor;
use std::path::Path;

/// A parser of untrusted bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parser {
    /// [`jempp_formats::pickle`], with the arrays in it.
    Pickle,
    /// A tar archive of CIFAR, compressed or not.
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
    /// A JPEG, as an image of a data set and as one to predict for.
    Jpeg,
    /// A GIF, likewise.
    Gif,
    /// A BMP, likewise.
    Bmp,
    /// A WebP, likewise.
    WebP,
    /// A TIFF, likewise.
    Tiff,
    /// A table of labels of images.
    Table,
    /// The two files of a part of STL-10.
    Stl,
    /// A zip archive of `torch.save`: all tensors in it, and the model.
    Torch,
    /// A file of `torch.save` in the format before PyTorch 1.6: all tensors in it, and the model.
    Legacy,
    /// Means or covariances of the classes, saved by PyTorch.
    Moments,
    /// A safetensors file: all tensors, and the model with its metadata.
    Safetensors,
    /// A configuration.
    Toml,
}

impl Parser {
    /// The name that messages give to the file of the bytes.
    pub const FILE: &str = "some/file";
    /// All parsers that keep to the bound on memory: not TIFF, of which a small file can take 100 MiB (docs/open.md).
    pub const ALL: [Self; 19] = [
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
        Self::Bmp,
        Self::WebP,
        Self::Table,
        Self::Stl,
        Self::Torch,
        Self::Legacy,
        Self::Moments,
        Self::Safetensors,
        Self::Toml,
    ];

    /// Parses `bytes` and drops the result; models are placed on `device`.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn run(self, device: &Device, bytes: &[u8]) -> Result<()> {
        let path = Path::new(Self::FILE);
        let place = Place::file(path);
        let length = bytes.len() as u64;
        match self {
            Self::Pickle => {
                let pickle = Pickle::read(bytes).map_err(|e| place.damaged(e))?;
                for (key, value) in pickle.root().as_pairs().into_iter().flat_map(Pairs::iter) {
                    let _ = (key.kind(), value.kind(), numpy::array(value), numpy::integers(value, 3));
                }
                Ok(())
            }
            Self::Archive => Ok(untrusted::cifar_archive(path, bytes)?),
            Self::Idx => Ok(untrusted::idx_file(path, bytes)?),
            Self::Mat => Ok(untrusted::svhn_file(path, bytes)?),
            Self::Npz => Ok(untrusted::npz_file(path, bytes)?),
            Self::Inputs => {
                Ok(images(Npz::of(path, Cursor::new(bytes), length, Unpack::bytes(1 << 16))?, None)
                    .map(drop)?)
            }
            Self::Lists => Ok(untrusted::celeba_lists(path, bytes)?),
            Self::Png | Self::Jpeg | Self::Gif | Self::Bmp | Self::WebP | Self::Tiff => {
                let decoded = untrusted::image_file(path, bytes).map_err(Error::from);
                either(decoded, || Ok(image_of(path, bytes, SIZE, None).map(drop)?))
            }
            Self::Table => Ok(untrusted::label_table(path, bytes)?),
            Self::Stl => Ok(untrusted::stl_files(path, bytes)?),
            Self::Torch | Self::Legacy => {
                let all = torch::tensors(bytes, path).map(drop).map_err(Error::from);
                either(all, || published::read(bytes, path, published::Hints::default()).map(drop))
            }
            Self::Moments => moments::floats((bytes, path)).map(drop),
            Self::Safetensors => {
                let reader = LazyReader::from_bytes(bytes.to_vec(), path)?;
                reader.read(&reader.names())?;
                let whole = |name: &&str| name.ends_with("conv1.weight") && reader.names().len() > 9;
                if !reader.metadata.contains_key("format") && !reader.names().iter().any(whole) {
                    return Ok(());
                }
                let model = Model::from_source(device, ModelSource::from_bytes(bytes.to_vec(), path)?)?;
                model.start_samples().map(drop)
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

/// Succeeds if one of the two readings does; an error that is not about the bytes is never hidden.
fn either(one: Result<()>, other: impl FnOnce() -> Result<()>) -> Result<()> {
    match (one, other()) {
        (Ok(()), other) if other.as_ref().is_err_and(|e| !matches!(e.exit_code(), 3 | 6)) => other,
        (Err(e), Ok(())) if matches!(e.exit_code(), 3 | 6) => Ok(()),
        (one, _) => one,
    }
}
