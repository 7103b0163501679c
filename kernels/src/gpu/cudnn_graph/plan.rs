//! Execution plans of a graph: compiling them, running one.
//!
//! What must hold: a plan runs only with addresses that its caller has checked.

use cudarc::cudnn::sys;
use cudarc::cudnn::sys::cudnnBackendAttributeName_t as Name;
use cudarc::cudnn::sys::cudnnBackendDescriptorType_t as Kind;

use super::builder::Builder;
use super::descriptor::{Descriptor, Target};
use super::engine::Config;
use super::graph::{Graph, Heuristic};
use crate::gpu::cudnn::check;
use crate::gpu::error::GpuError;

/// The plans of a graph, with all that they may refer to; dropped in this order.
pub(super) struct Plans {
    plans: Vec<Plan>,
    _graph: Graph,
}

impl std::ops::Deref for Plans {
    type Target = [Plan];

    fn deref(&self) -> &[Plan] {
        &self.plans
    }
}

impl Plans {
    /// Compiles up to `most` plans for a graph that need at most `space` bytes of workspace, in the order in which cuDNN's
    /// heuristics expect them to be fast.
    ///
    /// # Errors
    /// cuDNN's error if no engine supports the graph.
    pub(super) fn compile(
        graph: Builder,
        target: &Target,
        (most, space): (usize, usize),
    ) -> Result<Self, GpuError> {
        let graph = Graph::new(graph, target)?;
        let (mut plans, mut refusal) = (Vec::new(), None);
        for heuristic in [Heuristic::Best, Heuristic::Fallback] {
            let proposed = match graph.propose(target, heuristic) {
                Ok(proposed) => proposed,
                Err(error) => {
                    refusal.get_or_insert(error);
                    continue;
                }
            };
            for config in proposed {
                if plans.len() >= most {
                    break;
                }
                match Plan::new(target, config, &graph) {
                    Ok(plan) if plan.workspace <= space => plans.push(plan),
                    Ok(_) => {}
                    Err(error) => refusal = Some(error),
                }
            }
        }
        match plans.is_empty() {
            true => Err(refusal.unwrap_or_else(|| GpuError::shape("a cuDNN graph", "no engine supports it"))),
            false => Ok(Self { plans, _graph: graph }),
        }
    }
}

/// A compiled graph.
pub(super) struct Plan {
    plan: Descriptor,
    /// Its engine configuration, kept alive since the plan may refer to it.
    config: Config,
    in_memory: Vec<i64>,
    pub(super) workspace: usize,
}

impl Plan {
    /// Compiles a graph by an engine configuration.
    ///
    /// # Errors
    /// cuDNN's error if the engine does not support the graph.
    pub(super) fn new(target: &Target, config: Config, graph: &Graph) -> Result<Self, GpuError> {
        let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &[config.descriptor.raw])?;
        let (handle, properties) =
            (Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, Name::CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
        let plan = target.set_on(plan, Some(handle), Some(properties))?.finish("compiling a graph")?;
        let workspace = plan.number(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)?;
        Ok(Self {
            plan,
            config,
            in_memory: graph.in_memory().to_vec(),
            workspace: usize::try_from(workspace).unwrap_or(usize::MAX),
        })
    }

    /// The global index of its engine among those that support the graph.
    pub(super) fn engine(&self) -> Result<i64, GpuError> {
        self.config.index()
    }

    /// Its engine, with the values of its knobs.
    pub(super) fn text(&self) -> Result<String, GpuError> {
        Ok(self.config.engine()?.to_string())
    }

    /// Submits one run.
    ///
    /// # Safety
    /// The handle must be the plan's own; `addresses` must be those of live buffers of its device, one for each tensor in
    /// memory, in the order in which they were added and at least as long; `space` that of `workspace` bytes.
    pub(super) unsafe fn run(
        &self,
        handle: sys::cudnnHandle_t,
        addresses: &[u64],
        space: u64,
    ) -> Result<(), GpuError> {
        if addresses.len() != self.in_memory.len() {
            return Err(GpuError::shape("a cuDNN graph", "another number of tensors"));
        }
        let pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &self.in_memory)?
            .with(Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, addresses)?
            .with(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &[space])?
            .finish("the addresses of a graph")?;
        let execute = self.plan.cudnn.cudnnBackendExecute;
        // SAFETY: the caller guarantees the addresses; the handle and the descriptors are good.
        check("running a graph", unsafe { execute(handle, self.plan.raw, pack.raw) })
    }
}
