//! The content of a model file: metadata keys, and tensors in the order of axes that files use.
//!
//! Invariant: values of `format` and names of tensors never change their meaning; a file of another format is refused.

use crate::config::ModelConfig;
use crate::error::Result;
use crate::network::listing;
use engine::Spec;
use jempp_formats::container::{Container, Tensor};

/// Value of `format` in the metadata of a model file.
pub const FORMAT: &str = "jempp-model-1";
/// Value of `preprocessing`: the formula that turns a byte u into a network input x.
pub(crate) const PREPROCESSING: &str = "x = (u/255 - 0.5)/0.5";
/// Name of the replay buffer, n×C×H×W: in the trainer's file of a checkpoint, or in a converted model's own file.
pub(crate) const REPLAY_BUFFER: &str = "replay_buffer";
/// Metadata key of a converted model whose image size was not in its source and is assumed.
pub(crate) const IMAGE_SIZE: &str = "image_size";

/// Metadata key of a converted model: the network class that its checkpoint was of.
pub(crate) const VARIANT: &str = "published";

/// The architecture in the metadata of a model file.
///
/// # Errors
/// [`crate::Error::Format`] when the file has another format, or its architecture is missing or impossible.
pub(crate) fn architecture(c: &Container) -> Result<ModelConfig> {
    let format = c.text("format")?;
    if format != FORMAT {
        return Err(c.wrong(format!("its format is `{format}`, this program reads `{FORMAT}`")).into());
    }
    let config = ModelConfig::from_json(c.text("architecture")?)
        .map_err(|e| c.wrong(format!("its architecture is not readable: {e}")))?;
    listing::check(&config).map_err(|e| c.wrong(format!("its architecture is impossible: {e}")))?;
    Ok(config)
}

/// The values of tensor `name` of a file, in the axis order of memory.
///
/// # Errors
/// [`crate::Error::Format`] when it is missing or has another shape than `spec`.
pub(crate) fn read_tensor(c: &Container, name: &str, spec: &Spec) -> Result<Vec<f32>> {
    match *spec.shape() {
        [k, r, s, ch] => Ok(c.filters(name, [k, r, s, ch])?),
        _ => Ok(c.f32(name, spec.shape())?.to_vec()),
    }
}

/// A tensor for a file, of values in the axis order of memory.
///
/// # Errors
/// [`crate::Error::Data`] when there are more or fewer values than `spec` has.
pub(crate) fn write_tensor(name: &str, spec: &Spec, values: &[f32]) -> Result<Tensor> {
    match *spec.shape() {
        [k, r, s, c] => Ok(Tensor::filters(name, [k, r, s, c], values)?),
        _ => Ok(Tensor::f32(name, spec.shape(), values.to_vec())),
    }
}
