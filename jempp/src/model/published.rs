//! Reading the published PyTorch checkpoints of JEM and JEM++ as the content of a model file: aliases are resolved to
//! canonical names, and the architecture is inferred from the shapes.
//!
//! Invariants: each tensor is read once, under the name that `network::listing` gives it; a tensor that does
//! not belong to the network is an error, so that nothing is dropped silently; no two tensors share a value.

use super::file::{FORMAT, IMAGE_SIZE, PREPROCESSING, REPLAY_BUFFER};
use crate::config::{Config, ModelConfig, NormKind};
use crate::error::Result;
use crate::network::listing;
use jempp_formats::container::{Container, Tensor, TensorData};
use jempp_formats::pickle::{Pairs, Value};
use jempp_formats::place::shown;
use jempp_formats::torch::{Saved, View};
use std::collections::BTreeMap;
use std::path::Path;

/// Height and width of images where nothing in the file says it: those of the published models.
const SIDE: usize = 32;
/// Ending of the names of batch norm's step counters, which nothing here depends on.
const TRACKED: &str = ".num_batches_tracked";

/// What the shapes of a checkpoint's tensors do not determine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// The norm, where there are scales and shifts but no running statistics: instance norm and layer norm look alike.
    pub norm: Option<NormKind>,
    /// Height and width of images, where there is no replay buffer to take them from; 32×32 by default.
    pub image_size: Option<[usize; 2]>,
}

/// Reads a model from the bytes of a file that `torch.save` wrote: weights under their published names, the
/// architecture, and the replay buffer if there is one. Both `{"model_state_dict": …, "replay_buffer": …}` and bare
/// state dicts are read. Error messages call the file `source`.
///
/// # Errors
/// [`crate::Error::Format`] when the file is damaged or holds something else, saying what it is and where.
pub fn read(bytes: &[u8], source: &Path, hints: Hints) -> Result<Container> {
    let saved = Saved::open(bytes, source)?;
    let root = saved.root().as_pairs().ok_or_else(|| {
        let kind = saved.root().kind();
        saved.wrong(format!(
            "it holds {kind}, not a checkpoint or state dict; save model.state_dict() instead"
        ))
    })?;
    let dict = ["model_state_dict", "state_dict"].into_iter().find_map(|key| root.get(key));
    let pairs = match dict {
        Some(item) => item.as_pairs().ok_or_else(|| {
            saved.wrong(format!("the state dict is {}; save model.state_dict() instead", item.kind()))
        })?,
        None => root,
    };
    let views = tensor_views(&saved, pairs)?;
    let buffer = root.get(REPLAY_BUFFER).filter(|i| dict.is_some() && !matches!(i.value(), Value::None));
    let buffer = buffer.map(|item| {
        let view = View::of(item).unwrap_or_else(|| Err(format!("it is {}, not a tensor", item.kind())));
        view.map_err(|e| saved.wrong(format!("`{REPLAY_BUFFER}`: {e}")))
    });
    let buffer = buffer.transpose()?;
    let config = architecture(&saved, &views, buffer.as_ref(), hints)?;
    let assumed = buffer.is_none() && hints.image_size.is_none();
    let tensors = tensors(&saved, views, &config, buffer)?;
    let mut container = Container::new(tensors).with_source(source);
    let json = |v: &ModelConfig| serde_json::to_string(v).map_err(|e| saved.wrong(e));
    let mut insert = |key: &str, value: String| container.meta.insert(key.to_owned(), value);
    insert("format", FORMAT.to_owned());
    insert("architecture", json(&config)?);
    insert("preprocessing", PREPROCESSING.to_owned());
    insert("source", format!("PyTorch checkpoint ({})", saved.form()));
    if assumed {
        insert(IMAGE_SIZE, "assumed".to_owned());
    }
    if config.norm == NormKind::Batch {
        insert("bn", "running".to_owned());
    }
    Ok(container)
}

/// The canonical name of a tensor that may be an alias: `f.layer_one` is `f.conv1`, `f.other_layers` are the three
/// layers and the last norm, and `module.` is the prefix that `DataParallel` adds to every name.
fn canonical_name(name: &str) -> String {
    let name = name.strip_prefix("module.").unwrap_or(name);
    if let Some(rest) = name.strip_prefix("f.layer_one.") {
        return format!("f.conv1.{rest}");
    }
    match name.strip_prefix("f.other_layers.").and_then(|r| r.split_once('.')) {
        Some(("3", rest)) => format!("f.bn1.{rest}"),
        Some((i @ ("0" | "1" | "2"), rest)) => format!("f.layer{}.{rest}", i.as_bytes()[0] - b'0' + 1),
        _ => name.to_owned(),
    }
}

type Views = BTreeMap<String, View>;

/// The tensors of a state dict by their canonical names.
fn tensor_views(saved: &Saved<'_>, pairs: Pairs<'_>) -> Result<Views> {
    let mut out = Views::new();
    for (key, item) in pairs.iter() {
        let name = key.as_str().ok_or_else(|| saved.wrong("a key of the state dict is not a string"))?;
        let view = View::of(item).ok_or_else(|| {
            let (name, kind) = (shown(name), item.kind());
            saved.wrong(format!("`{name}` in the state dict is {kind}, not a tensor"))
        })?;
        let view = view.map_err(|e| saved.wrong(format!("tensor `{}`: {e}", shown(name))))?;
        if let Some(before) = out.get(&canonical_name(name)) {
            check_alias(saved, name, before, &view)?;
        } else {
            out.insert(canonical_name(name), view);
        }
    }
    Ok(out)
}

/// Two names of one tensor must have the same values: usually the same storage.
fn check_alias(saved: &Saved<'_>, name: &str, a: &View, b: &View) -> Result<()> {
    if a == b {
        return Ok(());
    }
    let differs = || {
        saved.wrong(format!(
            "tensor `{}` differs from `{}`, of which it is an alias",
            shown(name),
            shown(&canonical_name(name))
        ))
    };
    if a.shape != b.shape {
        return Err(differs().into());
    }
    let [a, b] = [a, b].map(|v| saved.read(name, v).map(|t| t.data));
    if a? == b? { Ok(()) } else { Err(differs().into()) }
}

/// Infers the architecture from the shapes of a few tensors. Whether the others are there is checked later.
fn architecture(
    saved: &Saved<'_>,
    views: &Views,
    buffer: Option<&View>,
    hints: Hints,
) -> Result<ModelConfig> {
    let shape = |name: &str| {
        let view = views.get(name);
        view.map(|v| v.shape.clone()).ok_or_else(|| {
            saved.wrong(format!("there is no tensor `{name}`: not a Wide-ResNet of JEM++ or JEM"))
        })
    };
    let (first, head) = (shape("f.conv1.weight")?, shape("class_output.weight")?);
    let (&[_, channels, _, _], &[classes, features]) = (&first[..], &head[..]) else {
        return Err(saved
            .wrong(format!("filters {first:?} and class weights {head:?} do not belong to a Wide-ResNet"))
            .into());
    };
    let blocks = (0..).take_while(|i| views.contains_key(&format!("f.layer1.{i}.conv1.weight"))).count();
    let has = |part: &str| views.contains_key(&format!("f.bn1.{part}"));
    let norm = match (has("running_mean"), has("weight"), has("loc")) {
        (true, ..) => NormKind::Batch,
        (_, true, _) => hints.norm.ok_or_else(|| {
            saved.wrong(
                "it has a norm with scale and shift but no running statistics: instance norm or layer norm, which have \
                 the same shapes; convert it with --norm instance or --norm layer",
            )
        })?,
        (_, _, true) => NormKind::Act,
        _ => NormKind::None,
    };
    let [height, width] = match (buffer.map(|b| b.shape.as_slice()), hints.image_size) {
        (Some(&[_, c, h, w]), _) if c == channels => [h, w],
        (Some(other), _) => {
            return Err(saved
                .wrong(format!("the replay buffer {other:?} does not hold images of {channels} channels"))
                .into());
        }
        (None, size) => size.unwrap_or([SIDE; 2]),
    };
    let config = ModelConfig {
        depth: 6 * blocks + 4,
        widen_factor: features / 64,
        image_size: [height, width, channels],
        classes,
        norm,
        ..Config::preset("jempp")?.model
    };
    listing::check(&config)
        .map_err(|e| saved.wrong(format!("the architecture that its shapes imply: {e}")))?;
    Ok(config)
}

/// Whether a shape is the expected one, up to axes of length 1, as in parameters [1, C, 1, 1].
fn fits(shape: &[usize], want: &[usize]) -> bool {
    shape == want
        || (want.len() == 1 && shape.iter().filter(|d| **d != 1).eq(want.iter().filter(|d| **d != 1)))
}

/// All tensors of the network, those that published models have in addition, and the replay buffer.
fn tensors(
    saved: &Saved<'_>,
    mut views: Views,
    config: &ModelConfig,
    buffer: Option<View>,
) -> Result<Vec<Tensor>> {
    let mut taken: Vec<(String, View, Vec<usize>)> = Vec::new();
    listing::tensors(config, |name, want| {
        let view = views.remove(&name).ok_or_else(|| saved.wrong(format!("there is no tensor `{name}`")))?;
        if !fits(&view.shape, want) {
            let found = &view.shape;
            return Err(saved.wrong(format!("tensor `{name}`: expected {want:?}, found {found:?}")).into());
        }
        taken.push((name, view, want.to_vec()));
        Ok(())
    })?;
    for (name, view) in views {
        let shape = view.shape.clone();
        // Every published model has the energy head, but only the unconditional variant uses it.
        let known = match name.as_str() {
            "energy_output.weight" => shape == [1, 64 * config.widen_factor],
            "energy_output.bias" => shape == [1],
            _ => name.ends_with(TRACKED) && view.count() == Some(1),
        };
        if !known {
            return Err(saved
                .wrong(format!("tensor `{}` {shape:?} does not belong to the network", shown(&name)))
                .into());
        }
        taken.push((name, view, shape));
    }
    taken.extend(buffer.map(|v| (REPLAY_BUFFER.to_owned(), v.clone(), v.shape)));
    check_disjoint(saved, &taken)?;
    taken.into_iter().map(|(name, view, shape)| read_tensor(saved, name, &view, shape)).collect()
}

fn read_tensor(saved: &Saved<'_>, name: String, view: &View, shape: Vec<usize>) -> Result<Tensor> {
    let tensor = saved.read(&name, view)?;
    match (&tensor.data, name.ends_with(TRACKED)) {
        (TensorData::F32(_), false) | (TensorData::I64(_), true) => Ok(Tensor { name, shape, ..tensor }),
        (other, _) => Err(saved.wrong(format!("tensor `{}` has type {}", shown(&name), other.kind())).into()),
    }
}

/// No two tensors may overlap in a storage.
fn check_disjoint(saved: &Saved<'_>, taken: &[(String, View, Vec<usize>)]) -> Result<()> {
    let mut all: Vec<_> =
        taken.iter().map(|(name, view, _)| (&view.key, view.offset, view.end(), name)).collect();
    all.sort_unstable();
    for pair in all.windows(2) {
        let [(key, _, end, before), (other, start, _, name)] = pair else { continue };
        if key == other && end.is_none_or(|end| *start < end) {
            let why =
                format!("tensors `{}` and `{}` overlap in storage {key:.40?}", shown(before), shown(name));
            return Err(saved.wrong(why).into());
        }
    }
    Ok(())
}
