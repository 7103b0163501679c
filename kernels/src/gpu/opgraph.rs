//! cuDNN's graph API: operations on tensors that cuDNN compiles into one or a few kernels.
//!
//! What must hold: whoever makes a graph has seen to it that cuDNN is found; a plan runs only with addresses that its
//! caller has checked.

use std::ffi::c_void;
use std::ptr;

use cudarc::cudnn::sys::cudnnBackendAttributeName_t as Name;
use cudarc::cudnn::sys::cudnnBackendDescriptorType_t as Kind;
use cudarc::cudnn::sys::{self, cudnnPointwiseMode_t as Mode};

use super::backend::{Attribute, Desc, For, Real};
use super::desc::check;
use super::error::GpuError;
use crate::cpu::conv::ConvShape;

/// Plans that need more workspace are passed over.
const MOST_WORKSPACE: usize = 256 << 20;
/// Engines that each heuristic may propose.
const PROPOSED: usize = 16;

const COMPUTE: sys::cudnnDataType_t = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;

/// A tensor of a graph being made: its place in the list, which is its number for cuDNN too.
#[derive(Clone, Copy)]
pub(crate) struct Tensor(usize);

/// A graph being made.
#[derive(Default)]
pub(crate) struct Builder {
    operations: Vec<Desc>,
    /// What operations refer to beside tensors.
    parts: Vec<Desc>,
    tensors: Vec<Desc>,
    /// Numbers of the tensors that have an address, in the order in which they were made.
    real: Vec<i64>,
}

impl Builder {
    /// A tensor N×C×H×W in the order N, H, W, C: one with an address, or one that exists inside the graph only.
    pub(crate) fn tensor(
        &mut self,
        [n, h, w, c]: [usize; 4],
        dtype: Real,
        within: bool,
    ) -> Result<Tensor, GpuError> {
        let id = self.tensors.len();
        let strides = [h * w * c, 1, w * c, c].map(|d| d as i64);
        let desc = Desc::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[id as i64])?
            .with(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, &[dtype.raw()])?
            .with(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, &[n, c, h, w].map(|d| d as i64))?
            .with(Name::CUDNN_ATTR_TENSOR_STRIDES, &strides)?
            .with(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[16i64])?
            .with(Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL, &[within])?;
        self.tensors.push(desc.done("a tensor of a graph")?);
        if !within {
            self.real.push(id as i64);
        }
        Ok(Tensor(id))
    }

    fn raw(&self, tensor: Tensor) -> [sys::cudnnBackendDescriptor_t; 1] {
        [self.tensors[tensor.0].0]
    }

    fn part(&mut self, desc: Desc) -> [sys::cudnnBackendDescriptor_t; 1] {
        self.parts.push(desc);
        [self.parts[self.parts.len() - 1].0]
    }

    fn geometry(&mut self, shape: ConvShape) -> Result<[sys::cudnnBackendDescriptor_t; 1], GpuError> {
        let two = |n: usize| [n as i64; 2];
        let desc = Desc::new(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, &[COMPUTE])?
            .with(
                Name::CUDNN_ATTR_CONVOLUTION_CONV_MODE,
                &[sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION],
            )?
            .with(Name::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, &[2i64])?
            .with(Name::CUDNN_ATTR_CONVOLUTION_DILATIONS, &two(1))?
            .with(Name::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, &two(shape.stride))?
            .with(Name::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, &two(shape.pad))?
            .with(Name::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, &two(shape.pad))?
            .done("a convolution of a graph")?;
        Ok(self.part(desc))
    }

    /// y = x ∗ w.
    pub(crate) fn convolution(&mut self, shape: ConvShape, [x, w, y]: [Tensor; 3]) -> Result<(), GpuError> {
        let geometry = self.geometry(shape)?;
        let desc = Desc::new(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, &geometry)?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, &self.raw(x))?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, &self.raw(w))?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, &self.raw(y))?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, &[1.0f32])?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, &[0.0f32])?;
        self.operations.push(desc.done("a convolution in a graph")?);
        Ok(())
    }

    /// dx from dy and w.
    pub(crate) fn input_grad(&mut self, shape: ConvShape, [dy, w, dx]: [Tensor; 3]) -> Result<(), GpuError> {
        let geometry = self.geometry(shape)?;
        let desc = Desc::new(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, &geometry)?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, &self.raw(dy))?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, &self.raw(w))?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, &self.raw(dx))?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, &[1.0f32])?
            .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, &[0.0f32])?;
        self.operations.push(desc.done("an input gradient in a graph")?);
        Ok(())
    }

    fn pointwise(
        &mut self,
        mode: Mode,
        leak: Option<f64>,
        tensors: &[(Name, Tensor)],
    ) -> Result<(), GpuError> {
        let mut how = Desc::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_POINTWISE_MODE, &[mode])?
            .with(Name::CUDNN_ATTR_POINTWISE_MATH_PREC, &[COMPUTE])?;
        if let Some(leak) = leak {
            how = how.with(Name::CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, &[leak])?;
        }
        let how = self.part(how.done("a function of a graph")?);
        let mut desc = Desc::new(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &how)?;
        for (name, tensor) in tensors {
            desc = desc.with(*name, &self.raw(*tensor))?;
        }
        self.operations.push(desc.done("a function in a graph")?);
        Ok(())
    }

    /// y = x + b or x·b, where b may have one value a channel.
    pub(crate) fn combine(&mut self, add: bool, [x, b, y]: [Tensor; 3]) -> Result<(), GpuError> {
        let mode = if add { Mode::CUDNN_POINTWISE_ADD } else { Mode::CUDNN_POINTWISE_MUL };
        let tensors = [
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x),
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b),
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y),
        ];
        self.pointwise(mode, None, &tensors)
    }

    /// y = x, or leak·x where x is below zero.
    pub(crate) fn leaky(&mut self, leak: f64, [x, y]: [Tensor; 2]) -> Result<(), GpuError> {
        let tensors = [
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x),
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y),
        ];
        self.pointwise(Mode::CUDNN_POINTWISE_RELU_FWD, Some(leak), &tensors)
    }

    /// The gradient of [`Builder::leaky`]: dx from dy and x.
    pub(crate) fn leaky_grad(&mut self, leak: f64, [dy, x, dx]: [Tensor; 3]) -> Result<(), GpuError> {
        let tensors = [
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, dy),
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x),
            (Name::CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, dx),
        ];
        self.pointwise(Mode::CUDNN_POINTWISE_RELU_BWD, Some(leak), &tensors)
    }

    /// y = Σ x over the axes that y has not.
    pub(crate) fn sum(&mut self, [x, y]: [Tensor; 2]) -> Result<(), GpuError> {
        let how = Desc::new(Kind::CUDNN_BACKEND_REDUCTION_DESCRIPTOR)?
            .with(
                Name::CUDNN_ATTR_REDUCTION_OPERATOR,
                &[sys::cudnnReduceTensorOp_t::CUDNN_REDUCE_TENSOR_ADD],
            )?
            .with(Name::CUDNN_ATTR_REDUCTION_COMP_TYPE, &[COMPUTE])?;
        let how = self.part(how.done("a sum of a graph")?);
        let desc = Desc::new(Kind::CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_OPERATION_REDUCTION_DESC, &how)?
            .with(Name::CUDNN_ATTR_OPERATION_REDUCTION_XDESC, &self.raw(x))?
            .with(Name::CUDNN_ATTR_OPERATION_REDUCTION_YDESC, &self.raw(y))?;
        self.operations.push(desc.done("a sum in a graph")?);
        Ok(())
    }

    /// Up to `most` plans for the graph, in the order in which cuDNN's heuristics think them fast.
    ///
    /// # Errors
    /// What cuDNN answers if no engine takes the graph.
    pub(crate) fn plans(self, whose: &For, most: usize) -> Result<Plans, GpuError> {
        let operations: Vec<_> = self.operations.iter().map(|d| d.0).collect();
        let graph = Desc::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, &operations)?;
        let graph = whose.tell(graph, Some(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE), None)?;
        let graph = graph.done("a graph of operations")?;
        let (mut plans, mut refusal) = (Vec::new(), None);
        for mode in [
            sys::cudnnBackendHeurMode_t::CUDNN_HEUR_MODE_A,
            sys::cudnnBackendHeurMode_t::CUDNN_HEUR_MODE_FALLBACK,
        ] {
            let proposed = match propose(whose, &graph, mode) {
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
                match Plan::new(whose, config, &self.real) {
                    Ok(plan) if plan.workspace <= MOST_WORKSPACE => plans.push(plan),
                    Ok(_) => {}
                    Err(error) => refusal = Some(error),
                }
            }
        }
        match plans.is_empty() {
            true => Err(refusal.unwrap_or_else(|| GpuError::shape("a graph of cuDNN", "no engine takes it"))),
            false => Ok(Plans { plans, _graph: graph, _from: self }),
        }
    }
}

/// Plans of a graph, with all that they may refer to; dropped in this order.
pub(crate) struct Plans {
    plans: Vec<Plan>,
    _graph: Desc,
    _from: Builder,
}

impl std::ops::Deref for Plans {
    type Target = [Plan];

    fn deref(&self) -> &[Plan] {
        &self.plans
    }
}

/// The engines, with their settings, that a heuristic of cuDNN proposes.
fn propose(whose: &For, graph: &Desc, mode: sys::cudnnBackendHeurMode_t) -> Result<Vec<Desc>, GpuError> {
    let heuristic = Desc::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?
        .with(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &[graph.0])?
        .with(Name::CUDNN_ATTR_ENGINEHEUR_MODE, &[mode])?;
    let heuristic = whose.tell(heuristic, None, Some(Name::CUDNN_ATTR_ENGINEHEUR_DEVICEPROP))?;
    let heuristic = heuristic.done("asking cuDNN's heuristics")?;
    let configs = (0..PROPOSED).map(|_| Desc::new(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
    let mut configs = configs.collect::<Result<Vec<_>, _>>()?;
    let mut raw: Vec<_> = configs.iter().map(|d| d.0).collect();
    let mut count = 0i64;
    let name = Name::CUDNN_ATTR_ENGINEHEUR_RESULTS;
    // SAFETY: the descriptor is good; the library fills the descriptors given, which are as many as is said, and says
    // how many it has filled.
    let status = unsafe {
        let kind = sys::cudnnBackendDescriptor_t::TYPE;
        let to = raw.as_mut_ptr().cast::<c_void>();
        sys::cudnnBackendGetAttribute(heuristic.0, name, kind, PROPOSED as i64, &mut count, to)
    };
    check("reading the engines that cuDNN proposes", status)?;
    configs.truncate(count.clamp(0, PROPOSED as i64) as usize);
    Ok(configs)
}

/// A graph that can be run.
pub(crate) struct Plan {
    plan: Desc,
    /// Its engine; kept, as the plan may refer to it.
    config: Desc,
    real: Vec<i64>,
    pub(crate) workspace: usize,
}

impl Plan {
    fn new(whose: &For, config: Desc, real: &[i64]) -> Result<Self, GpuError> {
        let plan = Desc::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &[config.0])?;
        let (handle, properties) =
            (Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, Name::CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
        let plan = whose.tell(plan, Some(handle), Some(properties))?.done("compiling a graph")?;
        let workspace = plan.number(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)?;
        Ok(Self {
            plan,
            config,
            real: real.to_vec(),
            workspace: usize::try_from(workspace).unwrap_or(usize::MAX),
        })
    }

    /// The number of its engine among those that take the graph.
    pub(crate) fn engine(&self) -> Result<i64, GpuError> {
        let mut engine = Desc::new(Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?;
        let (mut count, name) = (0i64, Name::CUDNN_ATTR_ENGINECFG_ENGINE);
        let to = ptr::from_mut(&mut engine.0).cast::<c_void>();
        // SAFETY: the descriptors are good; the library fills the one given.
        let status = unsafe {
            let kind = sys::cudnnBackendDescriptor_t::TYPE;
            sys::cudnnBackendGetAttribute(self.config.0, name, kind, 1, &mut count, to)
        };
        check("reading a plan's engine", status)?;
        engine.number(Name::CUDNN_ATTR_ENGINE_GLOBAL_INDEX)
    }

    /// Asks for one run.
    ///
    /// # Safety
    /// The handle must be that of the plan; `addresses` must be of live buffers of its device, one for each tensor
    /// that is not within the graph, in the order in which they were made, each as long as was said; `space` one of
    /// `workspace` bytes.
    pub(crate) unsafe fn run(
        &self,
        handle: sys::cudnnHandle_t,
        addresses: &[u64],
        space: u64,
    ) -> Result<(), GpuError> {
        if addresses.len() != self.real.len() {
            return Err(GpuError::shape("a graph of cuDNN", "another number of tensors"));
        }
        let pack = Desc::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &self.real)?
            .with(Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, addresses)?
            .with(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &[space])?
            .done("the addresses of a graph")?;
        // SAFETY: the caller vouches for the addresses; the rest is good.
        check("running a graph", unsafe { sys::cudnnBackendExecute(handle, self.plan.0, pack.0) })
    }
}
