//! cuDNN's batch norm in training mode, over one group of images, and its gradient.
//!
//! What must hold: an engine is used only if its notes say that it adds in a fixed order; a run neither allocates on the
//! device nor waits.

use super::builder::Builder;
use super::descriptor::Target;
use super::graph::Graph;
use super::plan::Plan;
use crate::dtype::Float;
use crate::gpu::autotune;
use crate::gpu::driver::{Deferred, Gpu, Precision};
use crate::gpu::error::GpuError;
use crate::gpu::launch::exact;
use crate::memory::Span;

/// A batch norm: of which images, and in which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormSpec {
    /// Whether it is the gradient.
    pub gradient: bool,
    /// The element type of images; everything per channel is float32.
    pub float: Float,
    /// Images, height, width, channels.
    pub dims: [usize; 4],
}

/// What a forward pass reads and writes: x and y are images, the others have one float32 value per channel.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct NormForward<'a> {
    pub x: Span<'a>,
    pub gamma: Span<'a>,
    pub beta: Span<'a>,
    pub y: Span<'a>,
    pub mean: Span<'a>,
    /// 1/√(variance + ε).
    pub inverse: Span<'a>,
}

/// What a gradient reads and writes, with mean and inverse as the forward pass found them.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct NormGradient<'a> {
    pub x: Span<'a>,
    pub dy: Span<'a>,
    pub gamma: Span<'a>,
    pub mean: Span<'a>,
    pub inverse: Span<'a>,
    pub dx: Span<'a>,
    pub dgamma: Span<'a>,
    pub dbeta: Span<'a>,
}

impl NormSpec {
    /// The graph. Its tensors in memory: x, γ, β, y, mean, inverse and ε; of the gradient x, dy, γ, mean, inverse, dx, dγ and
    /// dβ.
    pub(super) fn build(&self) -> Result<Builder, GpuError> {
        let mut g = Builder::default();
        let (images, channels) = (self.dims, [1, 1, 1, self.dims[3]]);
        let float = self.float;
        if self.gradient {
            let (x, dy) = (g.tensor(images, float, false)?, g.tensor(images, float, false)?);
            let [gamma, mean, inverse] = [0; 3].map(|_| g.tensor(channels, Float::F32, false));
            let dx = g.tensor(images, float, false)?;
            let [dgamma, dbeta] = [0; 2].map(|_| g.tensor(channels, Float::F32, false));
            g.batch_norm_grad([x, dy, gamma?, mean?, inverse?], [dx, dgamma?, dbeta?])?;
        } else {
            let x = g.tensor(images, float, false)?;
            let [gamma, beta] = [0; 2].map(|_| g.tensor(channels, Float::F32, false));
            let y = g.tensor(images, float, false)?;
            let [mean, inverse] = [0; 2].map(|_| g.tensor(channels, Float::F32, false));
            let epsilon = g.number()?;
            g.batch_norm([x, gamma?, beta?, epsilon], [y, mean?, inverse?])?;
        }
        Ok(g)
    }

    /// The first plan that cuDNN's heuristics propose and that is allowed, with at most `space` bytes of workspace. cuDNN
    /// compiles it now, in a second or so.
    pub(super) fn plan(&self, target: &Target, graph: &Graph, space: usize) -> Result<Plan, GpuError> {
        let mut refusal = None;
        // Products have no part in it, so float32's rules hold for every type.
        for (_, config) in super::choice::candidates(target, graph, Precision::F32)? {
            match Plan::new(target, config, graph) {
                Ok(plan) if plan.workspace <= space => return Ok(plan),
                Ok(_) => {}
                Err(error) => refusal = Some(error),
            }
        }
        Err(refusal
            .unwrap_or_else(|| GpuError::shape("cuDNN's batch norm", "no engine has enough workspace")))
    }
}

struct Compiled {
    // Declared before the graph, so dropped first: it may refer to it.
    plan: Plan,
    _graph: Graph,
}

/// A batch norm with the plan by which it runs.
pub struct Norm {
    compiled: Deferred<Compiled>,
    spec: NormSpec,
    /// ε, which cuDNN reads in each call.
    epsilon: Box<f32>,
    handle: usize,
}

impl std::fmt::Debug for Norm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Norm({:?})", self.spec)
    }
}

impl Norm {
    /// Prepares a batch norm; the gradient does not need `epsilon`.
    ///
    /// # Errors
    /// Why cuDNN cannot be used, or its error; [`GpuError::Capturing`].
    pub fn new(gpu: &Gpu, spec: NormSpec, epsilon: f64) -> Result<Self, GpuError> {
        gpu.not_capturing("preparing a batch norm")?;
        let cudnn = gpu.cudnn()?;
        gpu.bind()?;
        let target = Target::Handle(cudnn.raw());
        let graph = Graph::new(spec.build()?, &target)?;
        let plan = spec.plan(&target, &graph, autotune::workspace_limit(gpu)?)?;
        let compiled = Deferred::new(Compiled { plan, _graph: graph });
        Ok(Self { compiled, spec, epsilon: Box::new(epsilon as f32), handle: cudnn.raw().addr() })
    }

    /// Bytes of workspace that a run needs.
    #[must_use]
    pub fn workspace(&self) -> usize {
        self.compiled.plan.workspace
    }

    fn check(&self, images: &[Span<'_>], channels: &[Span<'_>], gradient: bool) -> Result<(), GpuError> {
        if gradient != self.spec.gradient {
            return Err(GpuError::shape("cuDNN's batch norm", "it was prepared for the other direction"));
        }
        for span in images {
            self.spec.float.exact("cuDNN's batch norm: images", *span, self.spec.dims.iter().product())?;
        }
        for span in channels {
            exact::<f32>("cuDNN's batch norm: values per channel", *span, self.spec.dims[3])?;
        }
        Ok(())
    }

    /// Submits a forward pass. May be captured.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when lengths do not fit; cuDNN's error.
    pub fn forward(&self, gpu: &Gpu, at: NormForward<'_>, workspace: Span<'_>) -> Result<(), GpuError> {
        let NormForward { x, gamma, beta, y, mean, inverse } = at;
        self.check(&[x, y], &[gamma, beta, mean, inverse], false)?;
        let epsilon = std::ptr::from_ref::<f32>(&self.epsilon).addr() as u64;
        let spans = [x, gamma, beta, y, mean, inverse].map(|span| span.address());
        self.run(gpu, &[&spans[..], &[epsilon]].concat(), workspace)
    }

    /// Submits a gradient. May be captured.
    ///
    /// # Errors
    /// As [`Norm::forward`].
    pub fn gradient(&self, gpu: &Gpu, at: NormGradient<'_>, workspace: Span<'_>) -> Result<(), GpuError> {
        let NormGradient { x, dy, gamma, mean, inverse, dx, dgamma, dbeta } = at;
        self.check(&[x, dy, dx], &[gamma, mean, inverse, dgamma, dbeta], true)?;
        let spans = [x, dy, gamma, mean, inverse, dx, dgamma, dbeta].map(|span| span.address());
        self.run(gpu, &spans, workspace)
    }

    /// `addresses` are those of the graph's tensors, of the right lengths.
    fn run(&self, gpu: &Gpu, addresses: &[u64], workspace: Span<'_>) -> Result<(), GpuError> {
        if workspace.len() < self.workspace() {
            return Err(GpuError::shape("cuDNN's batch norm", "the workspace is too small"));
        }
        let cudnn = gpu.cudnn()?;
        if cudnn.raw().addr() != self.handle {
            return Err(GpuError::shape("cuDNN's batch norm", "it was prepared for another Gpu"));
        }
        gpu.bind()?;
        // SAFETY: the plan was made for this handle; the addresses are those of spans of live buffers of the graph's
        // lengths, as the callers checked, and that of a number which lives as long as this does.
        unsafe { self.compiled.plan.run(cudnn.raw(), addresses, workspace.address()) }
    }
}
