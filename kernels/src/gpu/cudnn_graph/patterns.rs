//! Convolutions fused with their neighbours, each as one cuDNN graph.
//!
//! What must hold: spans are as long as the pattern says; a run neither allocates on the device nor waits.

use super::builder::Builder;
use super::descriptor::Target;
use super::plan::Plans;
use crate::conv_shape::ConvShape;
use crate::dtype::Float;
use crate::gpu::autotune;
use crate::gpu::driver::{Deferred, Gpu};
use crate::gpu::error::GpuError;
use crate::memory::Span;

/// A group of operations in one graph. Each lists its tensors in order; the last ones are its results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// x ∗ w + r. Tensors: x, w, r, result.
    ConvAdd,
    /// y = x ∗ w, Σy and Σy² per channel, in float32. Tensors: x, w, y, Σy, Σy².
    ConvSums,
    /// leaky(x·s + b) ∗ w with s and b per channel, in float32. Tensors: x, s, b, w, result.
    LeakyConv,
    /// The gradient of leaky(z) ∗ w with respect to z, from dy, w and z. Tensors: dy, w, z, result.
    InputGradLeaky,
}

/// Every pattern.
pub const PATTERNS: [Pattern; 4] =
    [Pattern::ConvAdd, Pattern::ConvSums, Pattern::LeakyConv, Pattern::InputGradLeaky];

impl Pattern {
    /// Its tensors: name, number of elements, element type.
    #[must_use]
    pub fn tensors(self, s: ConvShape, float: Float) -> Vec<(&'static str, usize, Float)> {
        let (x, w, y) = (s.x_len(), s.w_len(), s.y_len());
        match self {
            Self::ConvAdd => vec![("x", x, float), ("w", w, float), ("r", y, float), ("result", y, float)],
            Self::ConvSums => vec![
                ("x", x, float),
                ("w", w, float),
                ("y", y, float),
                ("sum", s.k, Float::F32),
                ("sum of squares", s.k, Float::F32),
            ],
            Self::LeakyConv => {
                vec![
                    ("x", x, float),
                    ("s", s.c, Float::F32),
                    ("b", s.c, Float::F32),
                    ("w", w, float),
                    ("result", y, float),
                ]
            }
            Self::InputGradLeaky => {
                vec![("dy", y, float), ("w", w, float), ("z", x, float), ("result", x, float)]
            }
        }
    }

    /// How many of the last tensors are results.
    #[must_use]
    pub fn results(self) -> usize {
        if self == Self::ConvSums { 3 } else { 1 }
    }

    pub(super) fn build(self, s: ConvShape, float: Float, leak: f64) -> Result<Builder, GpuError> {
        match self {
            Self::ConvAdd => conv_add(s, float),
            Self::ConvSums => conv_sums(s, float),
            Self::LeakyConv => leaky_conv(s, float, leak),
            Self::InputGradLeaky => input_grad_leaky(s, float, leak),
        }
    }
}

/// The dimensions of a convolution's input, filters and output.
fn dims(s: ConvShape) -> [[usize; 4]; 3] {
    [[s.n, s.h, s.w, s.c], [s.k, s.r, s.s, s.c], [s.n, s.oh(), s.ow(), s.k]]
}

fn conv_add(s: ConvShape, float: Float) -> Result<Builder, GpuError> {
    let mut g = Builder::default();
    let [x, w, y] = dims(s);
    let inputs = [g.tensor(x, float, false)?, g.tensor(w, float, false)?];
    let (r, result) = (g.tensor(y, float, false)?, g.tensor(y, float, false)?);
    let y = g.tensor(y, Float::F32, true)?;
    g.convolution(s, [inputs[0], inputs[1], y], 0.0)?;
    g.combine(true, [y, r, result])?;
    Ok(g)
}

fn conv_sums(s: ConvShape, float: Float) -> Result<Builder, GpuError> {
    let mut g = Builder::default();
    let ([x_dims, w_dims, y_dims], channels) = (dims(s), [1, 1, 1, s.k]);
    let (x, w, y) =
        (g.tensor(x_dims, float, false)?, g.tensor(w_dims, float, false)?, g.tensor(y_dims, float, false)?);
    let sum = g.tensor(channels, Float::F32, false)?;
    let sum_of_squares = g.tensor(channels, Float::F32, false)?;
    let square = g.tensor(y_dims, Float::F32, true)?;
    g.convolution(s, [x, w, y], 0.0)?;
    g.sum([y, sum])?;
    g.combine(false, [y, y, square])?;
    g.sum([square, sum_of_squares])?;
    Ok(g)
}

fn leaky_conv(s: ConvShape, float: Float, leak: f64) -> Result<Builder, GpuError> {
    let mut g = Builder::default();
    let ([x_dims, w_dims, y_dims], channels) = (dims(s), [1, 1, 1, s.c]);
    let x = g.tensor(x_dims, float, false)?;
    let scale = g.tensor(channels, Float::F32, false)?;
    let shift = g.tensor(channels, Float::F32, false)?;
    let (w, result) = (g.tensor(w_dims, float, false)?, g.tensor(y_dims, float, false)?);
    // cuDNN accepts the input of a convolution only in the convolution's own type.
    let (scaled, shifted) = (g.tensor(x_dims, float, true)?, g.tensor(x_dims, float, true)?);
    let active = g.tensor(x_dims, float, true)?;
    g.combine(false, [x, scale, scaled])?;
    g.combine(true, [scaled, shift, shifted])?;
    g.leaky(leak, [shifted, active])?;
    g.convolution(s, [active, w, result], 0.0)?;
    Ok(g)
}

fn input_grad_leaky(s: ConvShape, float: Float, leak: f64) -> Result<Builder, GpuError> {
    let mut g = Builder::default();
    let [x_dims, w_dims, y_dims] = dims(s);
    let (dy, w, z) =
        (g.tensor(y_dims, float, false)?, g.tensor(w_dims, float, false)?, g.tensor(x_dims, float, false)?);
    let (result, dx) = (g.tensor(x_dims, float, false)?, g.tensor(x_dims, Float::F32, true)?);
    g.input_grad(s, [dy, w, dx], 0.0)?;
    g.leaky_grad(leak, [dx, z, result])?;
    Ok(g)
}

/// A compiled pattern: one plan for each engine that cuDNN proposes.
pub struct Fused {
    lengths: Vec<usize>,
    plans: Deferred<Plans>,
}

impl Fused {
    /// Compiles up to `most` plans, which takes up to a second each. `leak` is the slope of the leaky ReLU, if there is
    /// one.
    ///
    /// # Errors
    /// Why cuDNN cannot be used, or its error if no engine supports the pattern; [`GpuError::Capturing`].
    pub fn new(
        gpu: &Gpu,
        pattern: Pattern,
        shape: ConvShape,
        float: Float,
        leak: f64,
        most: usize,
    ) -> Result<Self, GpuError> {
        gpu.not_capturing("preparing a cuDNN graph")?;
        let cudnn = gpu.cudnn()?;
        gpu.bind()?;
        let (target, space) = (Target::Handle(cudnn.raw()), autotune::workspace_limit(gpu)?);
        let plans = Plans::compile(pattern.build(shape, float, leak)?, &target, (most, space))?;
        let plans = Deferred::new(plans);
        let lengths = pattern.tensors(shape, float).iter().map(|(_, n, t)| n * t.size()).collect();
        Ok(Self { lengths, plans })
    }

    /// Number of plans.
    #[must_use]
    pub fn len(&self) -> usize {
        self.plans.len()
    }

    /// Whether there are no plans.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    /// Bytes of workspace that plan `i` needs; 0 if there is no such plan.
    #[must_use]
    pub fn workspace(&self, i: usize) -> usize {
        self.plans.get(i).map_or(0, |p| p.workspace)
    }

    /// The global index of the engine of plan `i`, as cuDNN numbers them.
    #[must_use]
    pub fn engine(&self, i: usize) -> Option<i64> {
        self.plans.get(i)?.engine().ok()
    }

    /// Submits one run of plan `i` on the pattern's tensors.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when there is no such plan or lengths do not fit; cuDNN's error.
    pub fn run(
        &self,
        gpu: &Gpu,
        i: usize,
        tensors: &[Span<'_>],
        workspace: Span<'_>,
    ) -> Result<(), GpuError> {
        let refused = |reason: &str| Err(GpuError::shape("a cuDNN graph", reason));
        let Some(plan) = self.plans.get(i) else { return refused("there is no such plan") };
        let lengths: Vec<usize> = tensors.iter().map(Span::len).collect();
        if lengths != self.lengths || workspace.len() < plan.workspace {
            return refused("a tensor or the workspace is of another length");
        }
        let addresses: Vec<u64> = tensors.iter().map(Span::address).collect();
        let cudnn = gpu.cudnn()?;
        gpu.bind()?;
        // SAFETY: the plan was made for the handle of this `Gpu`; the spans are of live buffers, in the pattern's order
        // and of its lengths.
        unsafe { plan.run(cudnn.raw(), &addresses, workspace.address()) }
    }
}
