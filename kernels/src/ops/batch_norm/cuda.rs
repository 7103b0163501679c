//! On a GPU: by own kernels, or by cuDNN's where [`Gpu::batch_norm`] says so.
//!
//! The own kernels are `cuda/batch_norm.cu`, with those of `cuda/bn_stats.cu` and `cuda/scale_shift_leaky.cu`. Three launches a
//! direction: parts of the sums, one kernel that finishes them and computes everything per channel, and one pass.

use super::{Constants, Grouped, library};
use crate::gpu::launch::{Float, Launch, f32, final_sums, i32, int, kernel, span_of};
use crate::gpu::{Gpu, GpuError};
use crate::memory::{GPU_ALIGN, Span};
use crate::ops::{bn_stats, scale_shift_leaky};

/// The prepared forward pass.
#[derive(Debug)]
pub struct Forward(ForwardBy);

#[derive(Debug)]
enum ForwardBy {
    Own(Box<OwnForward>),
    Cudnn(Box<library::Forward>),
}

impl Forward {
    /// Prepares it for a shape. `residual`: of a sum of two tensors.
    ///
    /// # Errors
    /// Errors of compiling and loading kernels; those of cuDNN on a device that
    /// [requires](Gpu::require_libraries) its libraries.
    pub fn new(
        gpu: &Gpu,
        float: Float,
        shape: &Grouped,
        residual: bool,
        k: Constants,
    ) -> Result<Self, GpuError> {
        if library::takes(gpu, float, shape) {
            match library::Forward::new(gpu, float, shape, residual, k) {
                Ok(forward) => return Ok(Self(ForwardBy::Cudnn(Box::new(forward)))),
                Err(why) => gpu.falls_back(FALLS_BACK, why)?,
            }
        }
        Ok(Self(ForwardBy::Own(Box::new(OwnForward::new(gpu, float, shape, residual, k)?))))
    }

    /// Bytes of workspace.
    pub fn workspace(&self) -> usize {
        match &self.0 {
            ForwardBy::Own(own) => own.workspace(),
            ForwardBy::Cudnn(cudnn) => cudnn.workspace(),
        }
    }

    /// Submits one run: of x, or with `sum`, a tensor to add and where y = x + add goes (which may be x), of y.
    ///
    /// # Errors
    /// If lengths do not fit, or a sum is given to a pass that was prepared without one; errors of the driver and of cuDNN.
    pub fn run(
        &self,
        gpu: &Gpu,
        x: Span<'_>,
        sum: Option<(Span<'_>, Span<'_>)>,
        affine: Affine<'_>,
        out: Outputs<'_>,
        workspace: Span<'_>,
    ) -> Result<(), GpuError> {
        match &self.0 {
            ForwardBy::Own(own) => own.run(gpu, x, sum, affine, out, workspace),
            ForwardBy::Cudnn(cudnn) => cudnn.run(gpu, x, sum, affine, out, workspace),
        }
    }
}

/// The prepared gradient.
#[derive(Debug)]
pub struct Gradient(GradientBy);

#[derive(Debug)]
enum GradientBy {
    Own(Box<OwnGradient>),
    Cudnn(Box<library::Gradient>),
}

impl Gradient {
    /// Prepares it for a shape.
    ///
    /// # Errors
    /// As [`Forward::new`].
    pub fn new(gpu: &Gpu, float: Float, shape: &Grouped, k: Constants) -> Result<Self, GpuError> {
        if library::takes(gpu, float, shape) {
            match library::Gradient::new(gpu, float, shape, k) {
                Ok(gradient) => return Ok(Self(GradientBy::Cudnn(Box::new(gradient)))),
                Err(why) => gpu.falls_back(FALLS_BACK, why)?,
            }
        }
        Ok(Self(GradientBy::Own(Box::new(OwnGradient::new(gpu, float, shape, k)?))))
    }

    /// Bytes of workspace.
    pub fn workspace(&self) -> usize {
        match &self.0 {
            GradientBy::Own(own) => own.workspace(),
            GradientBy::Cudnn(cudnn) => cudnn.workspace(),
        }
    }

    /// Submits one run: the gradients of x, gamma and beta.
    ///
    /// # Errors
    /// If lengths do not fit; errors of the driver and of cuDNN.
    pub fn run(
        &self,
        gpu: &Gpu,
        from: Inputs<'_>,
        out: [Span<'_>; 3],
        workspace: Span<'_>,
    ) -> Result<(), GpuError> {
        match &self.0 {
            GradientBy::Own(own) => own.run(gpu, from, out, workspace),
            GradientBy::Cudnn(cudnn) => cudnn.run(gpu, from, out, workspace),
        }
    }
}

/// What takes the place of cuDNN's batch norm where it fails.
const FALLS_BACK: &str = "batch norm runs on the project's own kernels, not on cuDNN's";

/// Vectors of either summand that a thread of the first kernel holds (`HELD`).
const HELD: usize = 4;

/// The forward pass by own kernels.
#[derive(Debug)]
struct OwnForward {
    parts: bn_stats::cuda::Parts,
    last: Launch,
    normalise: Launch,
}

/// The coefficients that a forward pass reads.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Affine<'a> {
    pub gamma: Span<'a>,
    pub beta: Span<'a>,
}

/// What [`Forward::run`] writes.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Outputs<'a> {
    pub h: Span<'a>,
    pub mean: Span<'a>,
    pub var: Span<'a>,
    pub scale: Span<'a>,
}

impl OwnForward {
    fn new(gpu: &Gpu, float: Float, shape: &Grouped, residual: bool, k: Constants) -> Result<Self, GpuError> {
        let parts = if residual {
            bn_stats::cuda::Parts::with(gpu, float, shape, HELD, |rows, [c, chunks, chunk_rows], parts| {
                let n = rows.len();
                let mut params = vec![float.span_of("x", n), float.span_of("add", n), rows.bounds.clone()];
                params.extend([c, chunks, chunk_rows, float.span_of("y", n), parts]);
                ("batch_norm", kernel!(float, "batch_norm_sum_parts"), params)
            })?
        } else {
            bn_stats::cuda::Parts::new(gpu, float, shape)?
        };
        let (rows, stats) = (&parts.rows, parts.rows.stats());
        let params = vec![
            span_of::<f32>("parts", parts.len),
            rows.bounds.clone(),
            span_of::<f32>("gamma", rows.c),
            i32(int("batch_norm", rows.c)?),
            i32(parts.chunks),
            i32(parts.chunk_rows),
            f32(k.eps),
            span_of::<f32>("mean", stats),
            span_of::<f32>("var", stats),
            span_of::<f32>("scale", stats),
        ];
        let grid = final_sums(rows.c, rows.groups);
        // SAFETY: the kernel reads the parts that the first wrote and c gammas, and writes groups × c statistics; the
        // block is 32 × 32.
        let last = unsafe { Launch::new(gpu, "batch_norm", "batch_norm_final", grid, params)? };
        let normalise = scale_shift_leaky::cuda::forward(gpu, float, shape, false, k.leak)?;
        Ok(Self { parts, last, normalise })
    }

    fn workspace(&self) -> usize {
        self.parts.len * size_of::<f32>()
    }

    fn run(
        &self,
        gpu: &Gpu,
        x: Span<'_>,
        sum: Option<(Span<'_>, Span<'_>)>,
        affine: Affine<'_>,
        out: Outputs<'_>,
        workspace: Span<'_>,
    ) -> Result<(), GpuError> {
        let Outputs { h, mean, var, scale } = out;
        let x = match sum {
            Some((add, y)) => {
                self.parts.launch.run(gpu, &[x, add, y, workspace].map(Some))?;
                y
            }
            None => {
                self.parts.launch.run(gpu, &[x, workspace].map(Some))?;
                x
            }
        };
        self.last.run(gpu, &[workspace, affine.gamma, mean, var, scale].map(Some))?;
        self.normalise.run(gpu, &[x, mean, scale, affine.beta, h].map(Some))
    }
}

/// The gradient by own kernels.
#[derive(Debug)]
struct OwnGradient {
    parts: scale_shift_leaky::cuda::Parts,
    last: Launch,
    grad: Launch,
}

/// What [`Gradient::run`] reads: as [`super::Inputs`].
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Inputs<'a> {
    pub x: Span<'a>,
    pub dh: Span<'a>,
    pub mean: Span<'a>,
    pub var: Span<'a>,
    pub scale: Span<'a>,
    pub gamma: Span<'a>,
    pub beta: Span<'a>,
    pub add: Option<Span<'a>>,
}

impl OwnGradient {
    fn new(gpu: &Gpu, float: Float, shape: &Grouped, k: Constants) -> Result<Self, GpuError> {
        let parts = scale_shift_leaky::cuda::Parts::new(gpu, float, shape, false, k.leak)?;
        let (rows, stats) = (&parts.rows, parts.rows.stats());
        let params = vec![
            span_of::<f32>("parts", parts.len),
            rows.bounds.clone(),
            span_of::<f32>("var", stats),
            span_of::<f32>("scale", stats),
            span_of::<f32>("gamma", rows.c),
            i32(int("batch_norm", rows.groups)?),
            i32(int("batch_norm", rows.c)?),
            i32(parts.chunks),
            i32(parts.chunk_rows),
            f32(k.eps),
            span_of::<f32>("dmean", stats),
            span_of::<f32>("dvar", stats),
            span_of::<f32>("dgamma", rows.c),
            span_of::<f32>("dbeta", rows.c),
        ];
        // SAFETY: the kernel reads the parts that the first wrote, groups × c statistics and c gammas, and writes groups ×
        // c and c gradients; the block is 32 × 32.
        let last = unsafe {
            Launch::new(gpu, "batch_norm", "batch_norm_grad_final", final_sums(rows.c, 1), params)?
        };
        let grad = scale_shift_leaky::cuda::grad(gpu, float, shape, false, true, k.leak)?;
        Ok(Self { parts, last, grad })
    }

    fn parts_bytes(&self) -> usize {
        self.parts.len * size_of::<f32>()
    }

    fn stats_bytes(&self) -> usize {
        self.parts.rows.stats() * size_of::<f32>()
    }

    fn workspace(&self) -> usize {
        self.parts_bytes().next_multiple_of(GPU_ALIGN)
            + self.stats_bytes().next_multiple_of(GPU_ALIGN)
            + self.stats_bytes()
    }

    fn run(
        &self,
        gpu: &Gpu,
        from: Inputs<'_>,
        [dx, dgamma, dbeta]: [Span<'_>; 3],
        workspace: Span<'_>,
    ) -> Result<(), GpuError> {
        let Inputs { x, dh, mean, var, scale, gamma, beta, add } = from;
        let part = |at, len| {
            let part = workspace.part(at, len);
            part.ok_or_else(|| GpuError::shape("batch_norm", "the workspace is too small"))
        };
        let (parts_end, stats) = (self.parts_bytes().next_multiple_of(GPU_ALIGN), self.stats_bytes());
        let parts = part(0, self.parts_bytes())?;
        let dmean = part(parts_end, stats)?;
        let dvar = part(parts_end + stats.next_multiple_of(GPU_ALIGN), stats)?;
        self.parts.launch.run(gpu, &[x, dh, mean, scale, beta, parts].map(Some))?;
        self.last.run(gpu, &[parts, var, scale, gamma, dmean, dvar, dgamma, dbeta].map(Some))?;
        let spans = [x, dh, mean, scale, beta, dmean, dvar].map(Some);
        self.grad.run(gpu, &[&spans[..], &[add, Some(dx)]].concat())
    }
}
