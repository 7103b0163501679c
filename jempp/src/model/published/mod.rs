//! Reading the checkpoints of JEM, JEM++ and SADA-JEM, and state dicts that other programs save of their networks, as the content
//! of a model file: aliases are resolved to canonical names, and the architecture is inferred from the shapes.
//!
//! Invariants: each tensor is read once, under the name that `network::listing` gives it; a tensor that does
//! not belong to the network is an error, so that nothing is dropped silently; no two tensors share a value.

mod state;

use super::file::{FORMAT, IMAGE_SIZE, PREPROCESSING, REPLAY_BUFFER, VARIANT};
use crate::config::{Config, ModelConfig, NormKind};
use crate::error::Result;
use crate::network::listing;
use jempp_formats::container::{Container, Tensor, TensorData};
use jempp_formats::place::shown;
pub use state::Variant;
use state::{State, Stored};
use std::path::Path;

/// Height and width of images where nothing in the file says it: those of the published models.
const SIDE: usize = 32;
/// Ending of the names of batch norm's step counters, which nothing here depends on.
const TRACKED: &str = ".num_batches_tracked";
/// Ending of the names of ActNorm's flags.
const INITIALIZED: &str = ".initialized";

/// What the shapes of a checkpoint's tensors do not determine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// The norm, where there are scales and shifts but no running statistics: instance norm and layer norm look alike.
    pub norm: Option<NormKind>,
    /// Height and width of images, where there is no replay buffer to take them from; 32×32 by default.
    pub image_size: Option<[usize; 2]>,
}

/// Reads a model from the bytes of a file that `torch.save` wrote: weights under their published names, the
/// architecture, and the replay buffer if there is one. State dicts are read wherever they are in the file: bare, as
/// `{"model_state_dict": …, "replay_buffer": …}`, or under one of the usual keys beside other things. Error messages call the
/// file `source`.
///
/// # Errors
/// [`crate::Error::Format`] when the file is damaged or holds something else, saying what it is and where.
pub fn read(bytes: &[u8], source: &Path, hints: Hints) -> Result<Container> {
    container(State::of_torch(bytes, source)?, source, hints)
}

/// Reads a model from the tensors of a safetensors file of another program, as [`read`] does.
///
/// # Errors
/// Those of [`read`].
pub(super) fn read_safetensors(file: Container, source: &Path, hints: Hints) -> Result<Container> {
    container(State::of_safetensors(file, source)?, source, hints)
}

/// Whether a tensor of this name is one of a network that another program saved.
pub(super) fn is_foreign(names: &[&str]) -> bool {
    names.iter().any(|n| state::is_first(n))
}

fn container(mut state: State<'_>, source: &Path, hints: Hints) -> Result<Container> {
    let config = architecture(&state, hints)?;
    let assumed = state.buffer.is_none() && hints.image_size.is_none();
    let tensors = tensors(&mut state, &config)?;
    let mut container = Container::new(tensors).with_source(source);
    let json = |v: &ModelConfig| serde_json::to_string(v).map_err(|e| state.wrong(e));
    let mut insert = |key: &str, value: String| container.meta.insert(key.to_owned(), value);
    insert("format", FORMAT.to_owned());
    insert("architecture", json(&config)?);
    insert("preprocessing", PREPROCESSING.to_owned());
    insert("source", state.form.clone());
    insert(VARIANT, state.variant.name().to_owned());
    if assumed {
        insert(IMAGE_SIZE, "assumed".to_owned());
    }
    if config.norm == NormKind::Batch {
        insert("bn", "running".to_owned());
    }
    Ok(container)
}

/// Infers the architecture from the shapes of a few tensors. Whether the others are there is checked later.
fn architecture(state: &State<'_>, hints: Hints) -> Result<ModelConfig> {
    let shape = |name: &str| {
        let stored = state.tensors.get(name);
        stored.map(|v| v.shape().to_vec()).ok_or_else(|| {
            state.wrong(format!("there is no tensor `{name}`: not a Wide-ResNet of JEM++ or JEM"))
        })
    };
    let (first, head) = (shape("f.conv1.weight")?, shape("class_output.weight")?);
    let (&[_, channels, _, _], &[classes, features]) = (&first[..], &head[..]) else {
        return Err(state
            .wrong(format!("filters {first:?} and class weights {head:?} do not belong to a Wide-ResNet")));
    };
    let blocks =
        (0..).take_while(|i| state.tensors.contains_key(&format!("f.layer1.{i}.conv1.weight"))).count();
    let has = |part: &str| state.tensors.contains_key(&format!("f.bn1.{part}"));
    let norm = match (has("running_mean"), has("weight"), has("loc")) {
        (true, ..) => NormKind::Batch,
        (_, true, _) => hints.norm.ok_or_else(|| {
            state.wrong(
                "it has a norm with scale and shift but no running statistics: instance norm or layer norm, which have \
                 the same shapes; convert it with --norm instance or --norm layer",
            )
        })?,
        (_, _, true) => NormKind::Act,
        _ => NormKind::None,
    };
    let [height, width] = match (state.buffer.as_ref().map(Stored::shape), hints.image_size) {
        (Some(&[_, c, h, w]), _) if c == channels => [h, w],
        (Some(other), _) => {
            return Err(state
                .wrong(format!("the replay buffer {other:?} does not hold images of {channels} channels")));
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
        .map_err(|e| state.wrong(format!("the architecture that its shapes imply: {e}")))?;
    Ok(config)
}

/// Whether a shape is the expected one, up to axes of length 1, as in parameters [1, C, 1, 1].
fn fits(shape: &[usize], want: &[usize]) -> bool {
    shape == want
        || (want.len() == 1 && shape.iter().filter(|d| **d != 1).eq(want.iter().filter(|d| **d != 1)))
}

/// All tensors of the network, those that published models have in addition, and the replay buffer.
fn tensors(state: &mut State<'_>, config: &ModelConfig) -> Result<Vec<Tensor>> {
    let mut stored = std::mem::take(&mut state.tensors);
    let mut taken: Vec<(String, Stored, Vec<usize>)> = Vec::new();
    listing::tensors(config, |name, want| {
        let found =
            stored.remove(&name).ok_or_else(|| state.wrong(format!("there is no tensor `{name}`")))?;
        if !fits(found.shape(), want) {
            let found = found.shape();
            return Err(state.wrong(format!("tensor `{name}`: expected {want:?}, found {found:?}")));
        }
        taken.push((name, found, want.to_vec()));
        Ok(())
    })?;
    let features = 64 * config.widen_factor;
    for (name, found) in stored {
        let shape = found.shape().to_vec();
        let scalar = shape.iter().all(|n| *n == 1);
        // Every published model has the energy head, but only the unconditional variant uses it; that of JEM has a linear layer
        // which nothing uses.
        let known = match name.as_str() {
            "energy_output.weight" => shape == [1, features],
            "energy_output.bias" => shape == [1],
            "f.linear.weight" => shape.len() == 2 && shape[1] == features,
            "f.linear.bias" => shape.len() == 1,
            // Whether an ActNorm has been given its start, which it has.
            _ if name.ends_with(INITIALIZED) && scalar => continue,
            _ => name.ends_with(TRACKED) && scalar,
        };
        if !known {
            return Err(
                state.wrong(format!("tensor `{}` {shape:?} does not belong to the network", shown(&name)))
            );
        }
        taken.push((name, found, shape));
    }
    taken.extend(state.buffer.take().map(|v| {
        let shape = v.shape().to_vec();
        (REPLAY_BUFFER.to_owned(), v, shape)
    }));
    check_disjoint(state, &taken)?;
    taken.into_iter().map(|(name, found, shape)| read_tensor(state, name, found, shape)).collect()
}

fn read_tensor(state: &State<'_>, name: String, stored: Stored, shape: Vec<usize>) -> Result<Tensor> {
    let tensor = state.read(&name, stored)?;
    match (&tensor.data, name.ends_with(TRACKED)) {
        (TensorData::F32(_), false) | (TensorData::I64(_), true) => Ok(Tensor { name, shape, ..tensor }),
        (other, _) => Err(state.wrong(format!("tensor `{}` has type {}", shown(&name), other.kind()))),
    }
}

/// No two tensors may overlap in a storage.
fn check_disjoint(state: &State<'_>, taken: &[(String, Stored, Vec<usize>)]) -> Result<()> {
    let view = |(name, stored, _): &'_ (String, Stored, Vec<usize>)| match stored {
        Stored::View(v) => Some((v.key.clone(), v.offset, v.end(), name.clone())),
        Stored::Whole(_) => None,
    };
    let mut all: Vec<_> = taken.iter().filter_map(view).collect();
    all.sort_unstable();
    for pair in all.windows(2) {
        let [(key, _, end, before), (other, start, _, name)] = pair else { continue };
        if key == other && end.is_none_or(|end| *start < end) {
            let why =
                format!("tensors `{}` and `{}` overlap in storage {key:.40?}", shown(before), shown(name));
            return Err(state.wrong(why));
        }
    }
    Ok(())
}
