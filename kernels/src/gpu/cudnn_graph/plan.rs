//! Execution plans of a graph: which engines cuDNN proposes for it, compiling them, running one.
//!
//! What must hold: a plan runs only with addresses that its caller has checked.

use std::ffi::c_void;
use std::ptr;

use cudarc::cudnn::sys;
use cudarc::cudnn::sys::cudnnBackendAttributeName_t as Name;
use cudarc::cudnn::sys::cudnnBackendDescriptorType_t as Kind;

use super::builder::Builder;
use super::descriptor::{Attribute, Descriptor, Target};
use crate::gpu::cudnn::check;
use crate::gpu::error::GpuError;

/// Plans that need more bytes of workspace are not considered.
const MAX_WORKSPACE: usize = 256 << 20;
/// Engines that each heuristic may propose.
const PROPOSED: usize = 16;

/// The plans of a graph, with all that they may refer to; dropped in this order.
pub(super) struct Plans {
    plans: Vec<Plan>,
    _graph: Descriptor,
    _operations: Builder,
}

impl std::ops::Deref for Plans {
    type Target = [Plan];

    fn deref(&self) -> &[Plan] {
        &self.plans
    }
}

impl Plans {
    /// Compiles up to `most` plans for a graph, in the order in which cuDNN's heuristics expect them to be fast.
    ///
    /// # Errors
    /// cuDNN's error if no engine supports the graph.
    pub(super) fn compile(graph: Builder, target: &Target, most: usize) -> Result<Self, GpuError> {
        let operations: Vec<_> = graph.operations.iter().map(|d| d.0).collect();
        let descriptor = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, &operations)?;
        let descriptor = target.set_on(descriptor, Some(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE), None)?;
        let descriptor = descriptor.finish("a graph of operations")?;
        let (mut plans, mut refusal) = (Vec::new(), None);
        for mode in [
            sys::cudnnBackendHeurMode_t::CUDNN_HEUR_MODE_A,
            sys::cudnnBackendHeurMode_t::CUDNN_HEUR_MODE_FALLBACK,
        ] {
            let proposed = match propose(target, &descriptor, mode) {
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
                match Plan::new(target, config, &graph.in_memory) {
                    Ok(plan) if plan.workspace <= MAX_WORKSPACE => plans.push(plan),
                    Ok(_) => {}
                    Err(error) => refusal = Some(error),
                }
            }
        }
        match plans.is_empty() {
            true => Err(refusal.unwrap_or_else(|| GpuError::shape("a cuDNN graph", "no engine supports it"))),
            false => Ok(Self { plans, _graph: descriptor, _operations: graph }),
        }
    }
}

/// The engine configurations that one of cuDNN's heuristics proposes.
fn propose(
    target: &Target,
    graph: &Descriptor,
    mode: sys::cudnnBackendHeurMode_t,
) -> Result<Vec<Descriptor>, GpuError> {
    let heuristic = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?
        .with(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &[graph.0])?
        .with(Name::CUDNN_ATTR_ENGINEHEUR_MODE, &[mode])?;
    let heuristic = target.set_on(heuristic, None, Some(Name::CUDNN_ATTR_ENGINEHEUR_DEVICEPROP))?;
    let heuristic = heuristic.finish("querying cuDNN's heuristics")?;
    let configs = (0..PROPOSED).map(|_| Descriptor::new(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
    let mut configs = configs.collect::<Result<Vec<_>, _>>()?;
    let mut raw: Vec<_> = configs.iter().map(|d| d.0).collect();
    let mut count = 0i64;
    let name = Name::CUDNN_ATTR_ENGINEHEUR_RESULTS;
    // SAFETY: the descriptor is good; the library fills at most as many of the given descriptors as the count says, and
    // returns how many.
    let status = unsafe {
        let kind = sys::cudnnBackendDescriptor_t::TYPE;
        let to = raw.as_mut_ptr().cast::<c_void>();
        sys::cudnnBackendGetAttribute(heuristic.0, name, kind, PROPOSED as i64, &mut count, to)
    };
    check("reading the engines that cuDNN proposes", status)?;
    configs.truncate(count.clamp(0, PROPOSED as i64) as usize);
    Ok(configs)
}

/// A compiled graph.
pub(super) struct Plan {
    plan: Descriptor,
    /// Its engine configuration, kept alive since the plan may refer to it.
    config: Descriptor,
    in_memory: Vec<i64>,
    pub(super) workspace: usize,
}

impl Plan {
    fn new(target: &Target, config: Descriptor, in_memory: &[i64]) -> Result<Self, GpuError> {
        let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &[config.0])?;
        let (handle, properties) =
            (Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, Name::CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
        let plan = target.set_on(plan, Some(handle), Some(properties))?.finish("compiling a graph")?;
        let workspace = plan.number(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)?;
        Ok(Self {
            plan,
            config,
            in_memory: in_memory.to_vec(),
            workspace: usize::try_from(workspace).unwrap_or(usize::MAX),
        })
    }

    /// The global index of its engine among those that support the graph.
    pub(super) fn engine(&self) -> Result<i64, GpuError> {
        let mut engine = Descriptor::new(Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?;
        let (mut count, name) = (0i64, Name::CUDNN_ATTR_ENGINECFG_ENGINE);
        let to = ptr::from_mut(&mut engine.0).cast::<c_void>();
        // SAFETY: the descriptors are good; the library fills the one that is passed.
        let status = unsafe {
            let kind = sys::cudnnBackendDescriptor_t::TYPE;
            sys::cudnnBackendGetAttribute(self.config.0, name, kind, 1, &mut count, to)
        };
        check("reading a plan's engine", status)?;
        engine.number(Name::CUDNN_ATTR_ENGINE_GLOBAL_INDEX)
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
        // SAFETY: the caller guarantees the addresses; the handle and the descriptors are good.
        check("running a graph", unsafe { sys::cudnnBackendExecute(handle, self.plan.0, pack.0) })
    }
}
