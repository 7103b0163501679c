//! A published checkpoint as a model's file: names made plain, the architecture read off the shapes.
//!
//! Invariants: each tensor is taken once, under the name that [`crate::network::listing`] gives it; a name that is no part
//! of the network is an error, so that nothing is left out unseen; two tensors share no value.

use crate::config::{Config, ModelConfig, NormKind};
use crate::error::Result;
use crate::model::{FORMAT, IMAGE_SIZE, PREPROCESSING, REPLAY_BUFFER};
use crate::network::listing;
use jempp_formats::container::{Container, Tensor, TensorData};
use jempp_formats::pickle::{Item, Pairs, Value};
use jempp_formats::place::shown;
use jempp_formats::torch::Saved;
use jempp_formats::torch::View;
use std::collections::BTreeMap;
use std::path::Path;

/// Size of images where nothing in the file says it: that of the published models.
const SIDE: usize = 32;
/// Number of training batches a batch norm has seen; nothing depends on it.
const TRACKED: &str = ".num_batches_tracked";

/// What shapes cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// The norm, where there are a scale and a shift and no statistics: instance and layer norm look alike.
    pub norm: Option<NormKind>,
    /// Height and width of images, where there is no replay buffer: 32×32 otherwise.
    pub image_size: Option<[usize; 2]>,
}

/// The model in a file of `torch.save`, as the content of a model's file: weights by their published names, architecture,
/// and the replay buffer if there is one. `{"model_state_dict": …, "replay_buffer": …}` and bare state dicts are read.
///
/// # Errors
/// [`crate::Error::Format`] when the file is damaged or holds something else; what it is and where, is named.
pub fn model(bytes: &[u8], source: &Path, hints: Hints) -> Result<Container> {
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
    let views = views(&saved, pairs)?;
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
    let mut fact = |key: &str, value: String| container.meta.insert(key.to_owned(), value);
    fact("format", FORMAT.to_owned());
    fact("architecture", json(&config)?);
    fact("preprocessing", PREPROCESSING.to_owned());
    fact("source", format!("PyTorch checkpoint ({})", saved.form()));
    if assumed {
        fact(IMAGE_SIZE, "assumed".to_owned());
    }
    if config.norm == NormKind::Batch {
        fact("bn", "running".to_owned());
    }
    Ok(container)
}

/// The published name of a tensor that may have gone by another: `f.layer_one` is `f.conv1`, `f.other_layers` are the three
/// layers and the last norm, and `module.` is what data-parallel training puts before all names.
fn plain(name: &str) -> String {
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

/// The tensors of a state dict by their plain names.
fn views(saved: &Saved<'_>, pairs: Pairs<'_>) -> Result<Views> {
    let mut out = Views::new();
    for (key, item) in pairs.iter() {
        let name = key.as_str().ok_or_else(|| saved.wrong("a name in the state dict is no string"))?;
        let view = View::of(item).ok_or_else(|| {
            let (name, kind) = (shown(name), item.kind());
            saved.wrong(format!("`{name}` in the state dict is {kind}, not a tensor"))
        })?;
        let view = view.map_err(|e| saved.wrong(format!("tensor `{}`: {e}", shown(name))))?;
        if let Some(before) = out.get(&plain(name)) {
            same(saved, name, before, &view)?;
        } else {
            out.insert(plain(name), view);
        }
    }
    Ok(out)
}

/// Two names of one tensor must mean the same values: usually the same storage.
fn same(saved: &Saved<'_>, name: &str, a: &View, b: &View) -> Result<()> {
    if a == b {
        return Ok(());
    }
    let apart = || {
        saved.wrong(format!(
            "tensor `{}` is not what `{}` is, of which it is an alias",
            shown(name),
            shown(&plain(name))
        ))
    };
    if a.shape != b.shape {
        return Err(apart().into());
    }
    let [a, b] = [a, b].map(|v| saved.read(name, v).map(|t| t.data));
    if a? == b? { Ok(()) } else { Err(apart().into()) }
}

/// The network that these tensors belong to. Whether all are there is seen later.
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
            .wrong(format!("filters {first:?} and class weights {head:?} are none of a Wide-ResNet"))
            .into());
    };
    let blocks = (0..).take_while(|i| views.contains_key(&format!("f.layer1.{i}.conv1.weight"))).count();
    let has = |part: &str| views.contains_key(&format!("f.bn1.{part}"));
    let norm = match (has("running_mean"), has("weight"), has("loc")) {
        (true, ..) => NormKind::Batch,
        (_, true, _) => hints.norm.ok_or_else(|| {
            saved.wrong(
                "it has a norm with scale and shift and without statistics: instance or layer norm, which shapes \
                 cannot tell apart; convert it with --norm instance or --norm layer",
            )
        })?,
        (_, _, true) => NormKind::Act,
        _ => NormKind::None,
    };
    let [height, width] = match (buffer.map(|b| b.shape.as_slice()), hints.image_size) {
        (Some(&[_, c, h, w]), _) if c == channels => [h, w],
        (Some(other), _) => {
            return Err(saved
                .wrong(format!("a replay buffer {other:?} holds no images of {channels} channels"))
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
    listing::check(&config).map_err(|e| saved.wrong(format!("read off its shapes: {e}")))?;
    Ok(config)
}

/// Whether a shape is that wanted, but for axes of length 1, as in parameters [1, C, 1, 1].
fn fits(shape: &[usize], want: &[usize]) -> bool {
    shape == want
        || (want.len() == 1 && shape.iter().filter(|d| **d != 1).eq(want.iter().filter(|d| **d != 1)))
}

/// All tensors of the network, those that published models have beside, and the replay buffer.
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
        // The head of the unconditional variant is in every published model, and used in that one only.
        let known = match name.as_str() {
            "energy_output.weight" => shape == [1, 64 * config.widen_factor],
            "energy_output.bias" => shape == [1],
            _ => name.ends_with(TRACKED) && view.count() == Some(1),
        };
        if !known {
            return Err(saved
                .wrong(format!("tensor `{}` {shape:?} is no part of the network", shown(&name)))
                .into());
        }
        taken.push((name, view, shape));
    }
    taken.extend(buffer.map(|v| (REPLAY_BUFFER.to_owned(), v.clone(), v.shape)));
    apart(saved, &taken)?;
    taken.into_iter().map(|(name, view, shape)| read(saved, name, &view, shape)).collect()
}

fn read(saved: &Saved<'_>, name: String, view: &View, shape: Vec<usize>) -> Result<Tensor> {
    let tensor = saved.read(&name, view)?;
    match (&tensor.data, name.ends_with(TRACKED)) {
        (TensorData::F32(_), false) | (TensorData::I64(_), true) => Ok(Tensor { name, shape, ..tensor }),
        (other, _) => Err(saved.wrong(format!("tensor `{}` is of {}", shown(&name), other.kind())).into()),
    }
}

/// No two tensors see the same part of a storage.
fn apart(saved: &Saved<'_>, taken: &[(String, View, Vec<usize>)]) -> Result<()> {
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

/// The one tensor in a file: the object itself, or the only tensor of a dict or list.
pub(super) fn lone<'p>(saved: &'p Saved<'_>) -> Result<View> {
    let root: Item<'p> = saved.root();
    let view =
        View::of(root).ok_or_else(|| saved.wrong(format!("it holds {}, not one tensor", root.kind())))?;
    Ok(view.map_err(|e| saved.wrong(e))?)
}
