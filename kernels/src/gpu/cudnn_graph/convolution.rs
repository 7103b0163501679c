//! Convolutions as graphs of one operation: float32 or bf16, accumulated in float32, NHWC images with KRSC filters.
//!
//! What must hold: only engines that add in a fixed order are used, so that the same input gives the same bits (see
//! [`super::engine::allowed`]). A run neither allocates on the device nor waits, so it can be captured.

use super::builder::Builder;
use super::descriptor::Target;
use super::engine::Engine;
use super::graph::Graph;
use super::plan::Plan;
use crate::conv_shape::ConvShape;
use crate::dtype::Float;
use crate::gpu::driver::{Deferred, Gpu, Precision};
use crate::gpu::error::GpuError;
use crate::gpu::launch::exact;
use crate::memory::Span;

/// What a convolution computes: its forward pass or one of its gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConvPass {
    /// The output, from the input and the filters.
    Forward,
    /// The gradient with respect to the input, from that of the output and the filters.
    InputGrad,
    /// The gradient with respect to the filters, from the input and the gradient of the output.
    WeightGrad,
}

/// Which convolution: all that the choice of its engine may depend on, besides the device and cuDNN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvSpec {
    /// What is computed.
    pub pass: ConvPass,
    /// The type of both inputs and of the result.
    pub float: Float,
    /// Its sizes.
    pub shape: ConvShape,
    /// Whether the result is added to what is there, in place of overwriting it.
    pub accumulate: bool,
}

impl ConvSpec {
    /// Number of values of the two inputs and of the result.
    pub(super) fn lengths(&self) -> [usize; 3] {
        let (x, w, y) = (self.shape.x_len(), self.shape.w_len(), self.shape.y_len());
        match self.pass {
            ConvPass::Forward => [x, w, y],
            ConvPass::InputGrad => [y, w, x],
            ConvPass::WeightGrad => [x, y, w],
        }
    }

    /// The precision of its products on a device that computes in `precision`: what is left in float32 on a device that
    /// computes in bf16 is meant to be exact.
    pub(super) fn precision(&self, precision: Precision) -> Precision {
        match (self.float, precision) {
            (Float::Bf16, _) => Precision::Bf16,
            (Float::F32, Precision::Bf16) => Precision::F32,
            (Float::F32, precision) => precision,
        }
    }

    /// The graph, with both inputs and the result as its tensors in memory, in this order.
    pub(super) fn build(&self) -> Result<Builder, GpuError> {
        let s = self.shape;
        let (x, w, y) = ([s.n, s.h, s.w, s.c], [s.k, s.r, s.s, s.c], [s.n, s.oh(), s.ow(), s.k]);
        let dims = match self.pass {
            ConvPass::Forward => [x, w, y],
            ConvPass::InputGrad => [y, w, x],
            ConvPass::WeightGrad => [x, y, w],
        };
        let mut graph = Builder::default();
        let [a, b, out] = dims.map(|dims| graph.tensor(dims, self.float, false));
        let (tensors, beta) = ([a?, b?, out?], f32::from(u8::from(self.accumulate)));
        match self.pass {
            ConvPass::Forward => graph.convolution(s, tensors, beta)?,
            ConvPass::InputGrad => graph.input_grad(s, tensors, beta)?,
            ConvPass::WeightGrad => graph.weight_grad(s, tensors, beta)?,
        }
        Ok(graph)
    }
}

/// A plan, which may hold code on the device, and its graph.
struct Compiled {
    // Declared before the graph, so dropped first: it may refer to it.
    plan: Plan,
    _graph: Graph,
}

/// A convolution with the plan by which it runs.
pub struct Convolution {
    compiled: Deferred<Compiled>,
    engine: Engine,
    spec: ConvSpec,
    /// The address of the handle that the plan was made for.
    handle: usize,
}

impl std::fmt::Debug for Convolution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Convolution({:?}, {})", self.spec.pass, self.engine)
    }
}

impl Convolution {
    /// Prepares a convolution with the fastest engine that cuDNN has for it, measured once per shape.
    ///
    /// # Errors
    /// Why cuDNN cannot be used, or its error; [`GpuError::Capturing`].
    pub fn new(gpu: &Gpu, spec: ConvSpec) -> Result<Self, GpuError> {
        gpu.not_capturing("preparing a convolution")?;
        let cudnn = gpu.cudnn()?;
        gpu.bind()?;
        let target = Target::Handle(cudnn.raw());
        let graph = Graph::new(spec.build()?, &target)?;
        let (engine, plan) = super::choice::choose(gpu, cudnn.raw(), &target, &graph, spec)?;
        let compiled = Deferred::new(Compiled { plan, _graph: graph });
        Ok(Self { compiled, engine, spec, handle: cudnn.raw().addr() })
    }

    /// Bytes of workspace that a run needs.
    #[must_use]
    pub fn workspace(&self) -> usize {
        self.compiled.plan.workspace
    }

    /// Its engine, by cuDNN's number, with the values of its knobs.
    #[must_use]
    pub fn algorithm(&self) -> String {
        self.engine.to_string()
    }

    /// Whether it adds to what the result holds.
    #[must_use]
    pub fn accumulates(&self) -> bool {
        self.spec.accumulate
    }

    /// Computes the result from both inputs (see [`ConvPass`]). May be captured.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the lengths do not fit; cuDNN's error.
    pub fn run(
        &self,
        gpu: &Gpu,
        (a, b): (Span<'_>, Span<'_>),
        out: Span<'_>,
        workspace: Span<'_>,
    ) -> Result<(), GpuError> {
        let [a_len, b_len, out_len] = self.spec.lengths();
        let float = self.spec.float;
        float.exact("convolution: first input", a, a_len)?;
        float.exact("convolution: second input", b, b_len)?;
        float.exact("convolution: result", out, out_len)?;
        exact::<u8>("convolution: workspace", workspace, self.compiled.plan.workspace)?;
        let cudnn = gpu.cudnn()?;
        if cudnn.raw().addr() != self.handle {
            return Err(GpuError::shape("convolution", "it was prepared for another Gpu"));
        }
        gpu.bind()?;
        let addresses = [a, b, out].map(|span| span.address());
        // SAFETY: the plan was made for this handle; the spans are of live buffers of the graph's lengths.
        unsafe { self.compiled.plan.run(cudnn.raw(), &addresses, workspace.address()) }
    }
}
