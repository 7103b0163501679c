//! A graph of operations that is complete, and what cuDNN's heuristics propose to run it by.

use cudarc::cudnn::sys;
use cudarc::cudnn::sys::cudnnBackendAttributeName_t as Name;
use cudarc::cudnn::sys::cudnnBackendDescriptorType_t as Kind;

use super::builder::Builder;
use super::descriptor::{Descriptor, Target};
use super::engine::Config;
use crate::gpu::error::GpuError;

/// Configurations that a heuristic may propose.
const PROPOSED: usize = 64;

/// Which of cuDNN's heuristics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heuristic {
    /// What is expected to be fast, best first.
    Best,
    /// What supports the most graphs.
    Fallback,
}

/// A complete graph, with all that it refers to; dropped in this order.
pub(super) struct Graph {
    pub(super) descriptor: Descriptor,
    operations: Builder,
}

impl Graph {
    /// Completes a graph.
    ///
    /// # Errors
    /// cuDNN's error.
    pub(super) fn new(operations: Builder, target: &Target) -> Result<Self, GpuError> {
        let raw: Vec<_> = operations.operations.iter().map(|d| d.raw).collect();
        let descriptor = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, &raw)?;
        let descriptor = target.set_on(descriptor, Some(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE), None)?;
        Ok(Self { descriptor: descriptor.finish("a graph of operations")?, operations })
    }

    /// Ids of the tensors that are in memory, in the order in which they were added.
    pub(super) fn in_memory(&self) -> &[i64] {
        &self.operations.in_memory
    }

    /// The engine configurations that one of cuDNN's heuristics proposes.
    ///
    /// # Errors
    /// cuDNN's error.
    pub(super) fn propose(&self, target: &Target, heuristic: Heuristic) -> Result<Vec<Config>, GpuError> {
        let mode = match heuristic {
            Heuristic::Best => sys::cudnnBackendHeurMode_t::CUDNN_HEUR_MODE_A,
            Heuristic::Fallback => sys::cudnnBackendHeurMode_t::CUDNN_HEUR_MODE_FALLBACK,
        };
        let query = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &[self.descriptor.raw])?
            .with(Name::CUDNN_ATTR_ENGINEHEUR_MODE, &[mode])?;
        let query = target.set_on(query, None, Some(Name::CUDNN_ATTR_ENGINEHEUR_DEVICEPROP))?;
        let query = query.finish("querying cuDNN's heuristics")?;
        let (name, kind) = (Name::CUDNN_ATTR_ENGINEHEUR_RESULTS, Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        Ok(query.descriptors(name, kind, PROPOSED)?.into_iter().map(Config::proposed).collect())
    }
}
