//! The weights' file: a state dict by PyTorch's names.

use super::FEATURES;
use jempp::Result;
use jempp_formats::container::{Container, TensorData};
use jempp_formats::files::missing_or;
use jempp_formats::torch;
use std::collections::BTreeSet;
use std::path::Path;

/// What batch norm adds to a variance in this network.
const EPS: f64 = 1e-3;
/// Parts of a state dict that a judgement has no use for: the second classifier that helps training, and counts of batches.
const AUXILIARY: &str = "AuxLogits.";
const TRACKED: &str = ".num_batches_tracked";

/// Reads a state dict: safetensors, or a file of `torch.save`.
///
/// # Errors
/// [`jempp::Error::Io`]; [`jempp::Error::Data`] when there is no file; [`jempp::Error::Format`] when it is damaged or
/// holds something else.
pub fn read(path: &Path) -> Result<Container> {
    let bytes = std::fs::read(path).map_err(|e| missing_or(path, e))?;
    let dict = if torch::is_torch(&bytes) {
        Container::new(torch::tensors(&bytes, path)?).with_source(path)
    } else {
        Container::from_bytes(&bytes, path)?
    };
    dict.check_finite()?;
    Ok(dict)
}

/// Number of classes.
pub fn classes(dict: &Container) -> Result<usize> {
    match dict.tensor("fc.weight")?.shape[..] {
        [classes, FEATURES] if classes > 0 => Ok(classes),
        ref other => Err(dict
            .wrong(format!("tensor `fc.weight`: expected [classes, {FEATURES}], found {other:?}"))
            .into()),
    }
}

/// Filters K×R×S×C and bias of a convolution and the batch norm behind it in one.
pub fn folded(dict: &Container, name: &str, krsc: [usize; 4]) -> Result<(Vec<f32>, Vec<f32>)> {
    let k = krsc[0];
    let mut filters = dict.filters(&format!("{name}.conv.weight"), krsc)?;
    let of = |part: &str| dict.f32(&format!("{name}.bn.{part}"), &[k]);
    let (weight, bias, mean, var) = (of("weight")?, of("bias")?, of("running_mean")?, of("running_var")?);
    let mut shift = Vec::with_capacity(k);
    for (i, filter) in filters.chunks_exact_mut(krsc[1] * krsc[2] * krsc[3]).enumerate() {
        let variance = f64::from(var[i]) + EPS;
        if variance <= 0.0 {
            return Err(dict
                .wrong(format!("tensor `{name}.bn.running_var`: value {i} is {}", var[i]))
                .into());
        }
        let scale = f64::from(weight[i]) / variance.sqrt();
        filter.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
        shift.push((f64::from(bias[i]) - f64::from(mean[i]) * scale) as f32);
    }
    Ok((filters, shift))
}

/// Refuses tensors that are no part of the network.
pub fn check_rest(dict: &Container, used: &BTreeSet<String>) -> Result<()> {
    let known = |name: &str| {
        let layer = ["conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"];
        let of = layer.iter().find_map(|part| name.strip_suffix(part)?.strip_suffix('.'));
        matches!(name, "fc.weight" | "fc.bias")
            || of.is_some_and(|layer| used.contains(layer))
            || name.starts_with(AUXILIARY)
            || name.ends_with(TRACKED)
    };
    match dict.tensors.iter().find(|t| !known(&t.name)) {
        Some(t) => Err(dict
            .wrong(format!(
                "tensor `{}` is no part of InceptionV3 as pytorch-fid and torchvision name it",
                t.name.escape_debug()
            ))
            .into()),
        None => Ok(()),
    }
}

/// Checksum of the values, in the order of the names.
pub fn crc32c(dict: &Container) -> u32 {
    let mut tensors: Vec<_> = dict.tensors.iter().collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    tensors.iter().fold(0, |crc, t| match &t.data {
        TensorData::F32(v) => v.iter().fold(crc, |crc, v| crc32c::crc32c_append(crc, &v.to_le_bytes())),
        _ => crc,
    })
}
