//! Engines: what cuDNN can run a graph by, with which knobs, and what is known of their arithmetic.
//!
//! What must hold: an engine is used only if its notes say that it adds in a fixed order and keeps the precision that
//! was asked for.

use std::fmt;
use std::str::FromStr;

use cudarc::cudnn::sys::cudnnBackendAttributeName_t as Name;
use cudarc::cudnn::sys::cudnnBackendAttributeType_t as Type;
use cudarc::cudnn::sys::cudnnBackendDescriptorType_t as Kind;
use cudarc::cudnn::sys::cudnnBackendNumericalNote_t as Note;

use super::descriptor::{Descriptor, Target};
use super::graph::Graph;
use crate::gpu::driver::Precision;
use crate::gpu::error::GpuError;

/// Numerical notes that an engine may have.
const NOTES: usize = 32;
/// Knobs that an engine may have.
const KNOBS: usize = 64;

/// An engine by its global index, and the values of its knobs by their types: all that is needed to make the same plan
/// again. As text: `engine 62, knobs 2=5 26=4`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Engine {
    pub(super) index: i64,
    knobs: Vec<(i32, i64)>,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "engine {}", self.index)?;
        for (i, (kind, value)) in self.knobs.iter().enumerate() {
            write!(f, "{}{kind}={value}", if i == 0 { ", knobs " } else { " " })?;
        }
        Ok(())
    }
}

impl FromStr for Engine {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let rest = text.strip_prefix("engine ").ok_or(())?;
        let (index, knobs) = match rest.split_once(", knobs ") {
            Some((index, knobs)) => (index, knobs.split(' ').collect()),
            None => (rest, Vec::new()),
        };
        let knob = |text: &str| {
            let (kind, value) = text.split_once('=')?;
            Some((kind.parse().ok()?, value.parse().ok()?))
        };
        let knobs = knobs.into_iter().map(knob).collect::<Option<_>>().ok_or(())?;
        Ok(Self { index: index.parse().map_err(|_| ())?, knobs })
    }
}

/// Whether an engine with these notes may be used: it must add in a fixed order. In float32 it may neither round factors
/// nor transform them; in TF32 it may do both, as the rounding of factors is coarser than Winograd's errors. In bf16
/// Winograd would round transformed values to bf16 as well.
pub(super) fn allowed(notes: &[i32], precision: Precision) -> bool {
    let mut refused = vec![
        Note::CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC,
        Note::CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION,
        Note::CUDNN_NUMERICAL_NOTE_FFT,
    ];
    if precision == Precision::F32 {
        refused
            .extend([Note::CUDNN_NUMERICAL_NOTE_TENSOR_CORE, Note::CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS]);
    }
    if precision != Precision::Tf32 {
        refused.extend([
            Note::CUDNN_NUMERICAL_NOTE_WINOGRAD,
            Note::CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4,
            Note::CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6,
            Note::CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13,
        ]);
    }
    !refused.iter().any(|&note| notes.contains(&(note as i32)))
}

/// An engine configuration: an engine of a graph with values for its knobs.
pub(super) struct Config {
    pub(super) descriptor: Descriptor,
    /// What it refers to.
    _parts: Vec<Descriptor>,
}

impl Config {
    /// One that a heuristic has filled in.
    pub(super) fn proposed(descriptor: Descriptor) -> Self {
        Self { descriptor, _parts: Vec::new() }
    }

    /// The configuration of `engine` for a graph.
    ///
    /// # Errors
    /// cuDNN's error if it does not have the engine, or the engine not these knobs.
    pub(super) fn new(graph: &Graph, target: &Target, engine: &Engine) -> Result<Self, GpuError> {
        let of = Descriptor::new(Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_ENGINE_OPERATION_GRAPH, &[graph.descriptor.raw])?
            .with(Name::CUDNN_ATTR_ENGINE_GLOBAL_INDEX, &[engine.index])?;
        let of = target.set_on(of, None, Some(Name::CUDNN_ATTR_ENGINE_DEVICEPROP))?;
        let mut parts = vec![of.finish("an engine of a graph")?];
        let mut config = Descriptor::new(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_ENGINECFG_ENGINE, &[parts[0].raw])?;
        for &(kind, value) in &engine.knobs {
            let (name, kind_of) = (Name::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, Type::CUDNN_TYPE_KNOB_TYPE);
            let knob = Descriptor::new(Kind::CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR)?
                .with_type(name, kind_of, &[kind])?
                .with(Name::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, &[value])?;
            parts.push(knob.finish("a knob of an engine")?);
        }
        if parts.len() > 1 {
            let knobs: Vec<_> = parts[1..].iter().map(|d| d.raw).collect();
            config = config.with(Name::CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, &knobs)?;
        }
        Ok(Self { descriptor: config.finish("an engine configuration")?, _parts: parts })
    }

    fn engine_descriptor(&self) -> Result<Descriptor, GpuError> {
        let (name, kind) = (Name::CUDNN_ATTR_ENGINECFG_ENGINE, Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR);
        let mut engines = self.descriptor.descriptors(name, kind, 1)?;
        engines.pop().ok_or_else(|| GpuError::shape("a cuDNN graph", "a configuration without an engine"))
    }

    /// The numerical notes of its engine, by cuDNN's numbers.
    pub(super) fn notes(&self) -> Result<Vec<i32>, GpuError> {
        let (name, kind) = (Name::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, Type::CUDNN_TYPE_NUMERICAL_NOTE);
        self.engine_descriptor()?.enumerants(name, kind, NOTES)
    }

    /// The global index of its engine among those that support the graph.
    pub(super) fn index(&self) -> Result<i64, GpuError> {
        self.engine_descriptor()?.number(Name::CUDNN_ATTR_ENGINE_GLOBAL_INDEX)
    }

    /// Its engine with the values of all knobs.
    pub(super) fn engine(&self) -> Result<Engine, GpuError> {
        let (name, kind) =
            (Name::CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, Kind::CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        let knobs = self.descriptor.descriptors(name, kind, KNOBS)?;
        let knob = |of: &Descriptor| {
            let (name, kind) = (Name::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, Type::CUDNN_TYPE_KNOB_TYPE);
            let kind = of.enumerants(name, kind, 1)?.first().copied();
            let kind = kind.ok_or_else(|| GpuError::shape("a cuDNN graph", "a knob without a type"))?;
            Ok((kind, of.number(Name::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE)?))
        };
        let mut knobs = knobs.iter().map(knob).collect::<Result<Vec<_>, GpuError>>()?;
        knobs.sort_unstable();
        Ok(Engine { index: self.index()?, knobs })
    }
}

#[cfg(test)]
mod tests;
