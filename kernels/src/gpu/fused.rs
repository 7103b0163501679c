//! Convolutions with their neighbours in one graph of cuDNN, to be measured beside the same work in several kernels.
//!
//! What must hold: spans are as long as the pattern says; a run neither allocates on the device nor waits.

pub use super::backend::Real;
use super::backend::{For, Properties};
use super::context::Gpu;
use super::cudnn::Cudnn;
use super::error::GpuError;
use super::libs::{Id, libraries};
use super::opgraph::{Builder, Plans, Tensor};
use crate::cpu::conv::ConvShape;
use crate::memory::Span;

/// What is fused with what. Each lists its tensors in order, the last ones being results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// x ∗ w + r. Tensors: x, w, r, result.
    ConvAdd,
    /// y = x ∗ w, Σy and Σy² by channel, in float32. Tensors: x, w, y, Σy, Σy².
    ConvSums,
    /// leaky(x·s + b) ∗ w with s and b by channel, in float32. Tensors: x, s, b, w, result.
    LeakyConv,
    /// The gradient by the input of leaky(z) ∗ w: from dy and w, times the slope at z. Tensors: dy, w, z, result.
    InputGradLeaky,
}

/// Every pattern.
pub const PATTERNS: [Pattern; 4] =
    [Pattern::ConvAdd, Pattern::ConvSums, Pattern::LeakyConv, Pattern::InputGradLeaky];

impl Pattern {
    /// Its tensors: name, elements, type.
    #[must_use]
    pub fn tensors(self, s: ConvShape, dtype: Real) -> Vec<(&'static str, usize, Real)> {
        let (x, w, y) = (s.x_len(), s.w_len(), s.y_len());
        let one = Real::F32;
        match self {
            Self::ConvAdd => vec![("x", x, dtype), ("w", w, dtype), ("r", y, dtype), ("result", y, dtype)],
            Self::ConvSums => vec![
                ("x", x, dtype),
                ("w", w, dtype),
                ("y", y, dtype),
                ("sum", s.k, one),
                ("sum of squares", s.k, one),
            ],
            Self::LeakyConv => {
                vec![("x", x, dtype), ("s", s.c, one), ("b", s.c, one), ("w", w, dtype), ("result", y, dtype)]
            }
            Self::InputGradLeaky => {
                vec![("dy", y, dtype), ("w", w, dtype), ("z", x, dtype), ("result", x, dtype)]
            }
        }
    }

    /// How many of the last tensors are results.
    #[must_use]
    pub fn results(self) -> usize {
        if self == Self::ConvSums { 3 } else { 1 }
    }

    fn build(self, s: ConvShape, dtype: Real, leak: f64) -> Result<Builder, GpuError> {
        let mut g = Builder::default();
        let x_dims = [s.n, s.h, s.w, s.c];
        let y_dims = [s.n, s.oh(), s.ow(), s.k];
        let w_dims = [s.k, s.r, s.s, s.c];
        let image = |g: &mut Builder, dims: [usize; 4], within: bool| -> Result<Tensor, GpuError> {
            g.tensor(dims, dtype, within)
        };
        match self {
            Self::ConvAdd => {
                let [x, w, r] = [
                    image(&mut g, x_dims, false)?,
                    image(&mut g, w_dims, false)?,
                    image(&mut g, y_dims, false)?,
                ];
                let (out, y) = (image(&mut g, y_dims, false)?, g.tensor(y_dims, Real::F32, true)?);
                g.convolution(s, [x, w, y])?;
                g.combine(true, [y, r, out])?;
            }
            Self::ConvSums => {
                let [x, w, y] = [
                    image(&mut g, x_dims, false)?,
                    image(&mut g, w_dims, false)?,
                    image(&mut g, y_dims, false)?,
                ];
                let channels = [1, 1, 1, s.k];
                let sum = g.tensor(channels, Real::F32, false)?;
                let squares = g.tensor(channels, Real::F32, false)?;
                let square = g.tensor(y_dims, Real::F32, true)?;
                g.convolution(s, [x, w, y])?;
                g.sum([y, sum])?;
                g.combine(false, [y, y, square])?;
                g.sum([square, squares])?;
            }
            Self::LeakyConv => {
                let channels = [1, 1, 1, s.c];
                let x = image(&mut g, x_dims, false)?;
                let scale = g.tensor(channels, Real::F32, false)?;
                let shift = g.tensor(channels, Real::F32, false)?;
                let (w, out) = (image(&mut g, w_dims, false)?, image(&mut g, y_dims, false)?);
                // cuDNN takes what goes into a convolution in the convolution's own type only.
                let (scaled, shifted) = (image(&mut g, x_dims, true)?, image(&mut g, x_dims, true)?);
                let active = image(&mut g, x_dims, true)?;
                g.combine(false, [x, scale, scaled])?;
                g.combine(true, [scaled, shift, shifted])?;
                g.leaky(leak, [shifted, active])?;
                g.convolution(s, [active, w, out])?;
            }
            Self::InputGradLeaky => {
                let [dy, w, z] = [
                    image(&mut g, y_dims, false)?,
                    image(&mut g, w_dims, false)?,
                    image(&mut g, x_dims, false)?,
                ];
                let (out, dx) = (image(&mut g, x_dims, false)?, g.tensor(x_dims, Real::F32, true)?);
                g.input_grad(s, [dy, w, dx])?;
                g.leaky_grad(leak, [dx, z, out])?;
            }
        }
        Ok(g)
    }
}

/// A pattern ready to run, in each of the ways that cuDNN proposes.
pub struct Fused {
    lengths: Vec<usize>,
    plans: Plans,
}

impl Fused {
    /// Compiles up to `most` plans, which takes up to a second each.
    ///
    /// # Errors
    /// Why there is no cuDNN, or what it answers where no engine takes the pattern; [`GpuError::Capturing`].
    pub fn new(
        gpu: &Gpu,
        pattern: Pattern,
        shape: ConvShape,
        dtype: Real,
        leak: f64,
        most: usize,
    ) -> Result<Self, GpuError> {
        gpu.not_capturing("preparing a graph of cuDNN")?;
        let cudnn = gpu.cudnn()?;
        gpu.bind()?;
        let plans = pattern.build(shape, dtype, leak)?.plans(&For::Handle(cudnn.raw()), most)?;
        let lengths = pattern.tensors(shape, dtype).iter().map(|(_, n, t)| n * t.size()).collect();
        Ok(Self { lengths, plans })
    }

    /// How many plans there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.plans.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    /// Bytes of workspace that plan `i` needs; 0 for a plan that is not there.
    #[must_use]
    pub fn workspace(&self, i: usize) -> usize {
        self.plans.get(i).map_or(0, |p| p.workspace)
    }

    /// The engine of plan `i`, by cuDNN's number.
    #[must_use]
    pub fn engine(&self, i: usize) -> Option<i64> {
        self.plans.get(i)?.engine().ok()
    }

    /// Asks for one run of plan `i` on the pattern's tensors.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the plan is not there or lengths do not fit; what cuDNN answers.
    pub fn run(
        &self,
        gpu: &Gpu,
        i: usize,
        tensors: &[Span<'_>],
        workspace: Span<'_>,
    ) -> Result<(), GpuError> {
        let refused = |reason: &str| Err(GpuError::shape("a graph of cuDNN", reason));
        let Some(plan) = self.plans.get(i) else { return refused("there is no such plan") };
        let lengths: Vec<usize> = tensors.iter().map(Span::len).collect();
        if lengths != self.lengths || workspace.len() < plan.workspace {
            return refused("a tensor or the workspace is of another length");
        }
        let addresses: Vec<u64> = tensors.iter().map(Span::address).collect();
        let cudnn: &Cudnn = &*gpu.cudnn()?;
        gpu.bind()?;
        // SAFETY: the plan was made for the handle of this `Gpu`; spans are of live buffers, of the lengths that the
        // pattern has, in its order.
        unsafe { plan.run(cudnn.raw(), &addresses, workspace.address()) }
    }
}

/// Compiles plans for a device that need not be here, described by cuDNN's JSON: the engines that take the pattern and
/// the bytes of workspace that each needs.
///
/// # Errors
/// As [`Fused::new`].
pub fn plans_for(
    json: &str,
    pattern: Pattern,
    shape: ConvShape,
    dtype: Real,
    leak: f64,
    most: usize,
) -> Result<Vec<(i64, usize)>, GpuError> {
    libraries().require(Id::Cudnn)?;
    let whose = For::Properties(Properties::from_json(json)?);
    let plans = pattern.build(shape, dtype, leak)?.plans(&whose, most)?;
    plans.iter().map(|p| Ok((p.engine()?, p.workspace))).collect()
}
