//! InceptionV3 weights from a file: a state dict with PyTorch's names.

use super::variant::FEATURES;
use jempp::Result;
use jempp_formats::container::{Container, TensorData};
use jempp_formats::files::missing_or;
use jempp_formats::torch;
use std::collections::BTreeSet;
use std::path::Path;

/// ε that batch norm adds to variances in this network.
const EPS: f64 = 1e-3;
/// Tensors of a state dict that are ignored: the auxiliary classifier, which only helps training, and counts of batches.
const AUXILIARY: &str = "AuxLogits.";
const TRACKED: &str = ".num_batches_tracked";

/// Reads a state dict from a safetensors file or a file written by `torch.save`.
///
/// # Errors
/// [`jempp::Error::Io`]; [`jempp::Error::Data`] if there is no file; [`jempp::Error::Format`] if it is damaged or contains
/// something else.
pub(super) fn read(path: &Path) -> Result<Container> {
    let bytes = std::fs::read(path).map_err(|e| missing_or(path, e))?;
    let dict = if torch::is_torch(&bytes) {
        Container::new(torch::tensors(&bytes, path)?).with_source(path)
    } else {
        Container::from_bytes(&bytes, path)?
    };
    dict.check_finite()?;
    Ok(dict)
}

/// The number of classes of the last layer.
pub(super) fn classes(dict: &Container) -> Result<usize> {
    match dict.tensor("fc.weight")?.shape[..] {
        [classes, FEATURES] if classes > 0 => Ok(classes),
        ref other => Err(dict
            .wrong(format!("tensor `fc.weight`: expected [classes, {FEATURES}], found {other:?}"))
            .into()),
    }
}

/// Filters K×R×S×C and bias of a convolution with the batch norm that follows it folded in.
pub(super) fn folded(dict: &Container, name: &str, krsc: [usize; 4]) -> Result<(Vec<f32>, Vec<f32>)> {
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

/// Fails if the state dict has a tensor that is not part of the network, whose layers are `used`.
pub(super) fn check_no_others(dict: &Container, used: &BTreeSet<String>) -> Result<()> {
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
                "tensor `{}` is not part of InceptionV3 as pytorch-fid and torchvision name it",
                t.name.escape_debug()
            ))
            .into()),
        None => Ok(()),
    }
}

/// Checksum (CRC-32C) of the values, in the order of the names.
pub(super) fn crc32c(dict: &Container) -> u32 {
    let mut tensors: Vec<_> = dict.tensors.iter().collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    tensors.iter().fold(0, |crc, t| match &t.data {
        TensorData::F32(v) => v.iter().fold(crc, |crc, v| crc32c::crc32c_append(crc, &v.to_le_bytes())),
        _ => crc,
    })
}
