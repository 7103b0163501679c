//! The CUDA backend, in float32: the separate ops one after another, with a normalised copy in the workspace between
//! them.

use super::{input, result};
use crate::gpu::launch::{Float, Launch};
use crate::gpu::{Gpu, GpuError};
use crate::memory::{GPU_ALIGN, Span};
use crate::ops::bn_stats::cuda::Stats;
use crate::ops::conv2d::{ConvShape, cuda::Conv, cuda::ConvPass};
use crate::ops::scale_shift_leaky::cuda::{Inputs, Reduce, forward};

/// The normalisation of an input: groups of images, whether mean and scale are common to them, and the slope below
/// zero.
#[derive(Clone, Copy, Debug)]
pub struct NormOptions<'a> {
    /// Images of each group.
    pub groups: &'a [usize],
    /// `[c]`, else `[groups, c]`.
    pub shared: bool,
    /// Slope below zero.
    pub leak: f64,
}

/// The normalised copy at the start of the workspace.
#[derive(Debug)]
struct Copy {
    launch: Launch,
    bytes: usize,
}

impl Copy {
    fn new(gpu: &Gpu, shape: &ConvShape, norm: NormOptions<'_>) -> Result<Self, GpuError> {
        let grouped = input(shape, norm.groups);
        let launch = forward(gpu, Float::F32, &grouped, norm.shared, norm.leak)?;
        Ok(Self { launch, bytes: shape.x_len() * size_of::<f32>() })
    }

    fn end(&self) -> usize {
        self.bytes.next_multiple_of(GPU_ALIGN)
    }

    /// Computes the copy and returns it.
    fn run<'a>(
        &self,
        gpu: &Gpu,
        x: Span<'_>,
        [mean, scale, shift]: [Span<'_>; 3],
        workspace: Span<'a>,
    ) -> Result<Span<'a>, GpuError> {
        let copy = part(workspace, 0, self.bytes)?;
        self.launch.run(gpu, &[x, mean, scale, shift, copy].map(Some))?;
        Ok(copy)
    }
}

fn part(workspace: Span<'_>, at: usize, len: usize) -> Result<Span<'_>, GpuError> {
    let too_small = || GpuError::shape("fused_conv2d", "the workspace is too small");
    workspace.part(at, len).ok_or_else(too_small)
}

/// y = x' ∗ w + bias + addend, where x' is x or x normalised; and the statistics of y. As [`super::Forward`].
#[derive(Debug)]
pub struct Forward {
    copy: Option<Copy>,
    conv: Conv,
    stats: Option<Stats>,
}

impl Forward {
    /// Prepares it for a shape. `adds`: whether runs are given a tensor to add.
    ///
    /// # Errors
    /// Errors of compiling and loading kernels, or of a library.
    pub fn new(
        gpu: &Gpu,
        shape: ConvShape,
        norm: Option<NormOptions<'_>>,
        stats: Option<&[usize]>,
        adds: bool,
    ) -> Result<Self, GpuError> {
        let copy = norm.map(|norm| Copy::new(gpu, &shape, norm)).transpose()?;
        let conv = Conv::new(gpu, ConvPass::Forward, Float::F32, shape, adds)?;
        let stats = stats.map(|groups| Stats::new(gpu, Float::F32, &result(&shape, groups)));
        Ok(Self { copy, conv, stats: stats.transpose()? })
    }

    fn rest(&self) -> usize {
        self.copy.as_ref().map_or(0, Copy::end)
    }

    /// Bytes of workspace.
    pub fn workspace(&self) -> usize {
        let stats = self.stats.as_ref().map_or(0, Stats::workspace);
        self.rest() + self.conv.workspace().max(stats)
    }

    /// Submits one run. `add` may be `y`.
    ///
    /// # Errors
    /// If lengths do not fit; an error of a library or the driver.
    pub fn run(
        &self,
        gpu: &Gpu,
        (x, coefficients): (Span<'_>, Option<[Span<'_>; 3]>),
        (w, bias): (Span<'_>, Span<'_>),
        add: Option<Span<'_>>,
        y: Span<'_>,
        found: Option<(Span<'_>, Span<'_>)>,
        workspace: Span<'_>,
    ) -> Result<(), GpuError> {
        let x = match (&self.copy, coefficients) {
            (Some(copy), Some(k)) => copy.run(gpu, x, k, workspace)?,
            _ => x,
        };
        let rest = |len| part(workspace, self.rest(), len);
        self.conv.run(gpu, (x, w), Some(bias), add, y, rest(self.conv.workspace())?)?;
        match (&self.stats, found) {
            (Some(stats), Some((mean, var))) => stats.run(gpu, y, mean, var, rest(stats.workspace())?),
            _ => Ok(()),
        }
    }
}

/// The gradient with respect to the normalised input, with the sums for mean, scale and shift. As [`super::InputGrad`].
#[derive(Debug)]
pub struct InputGrad {
    conv: Conv,
    reduce: Reduce,
}

impl InputGrad {
    /// Prepares it for a shape.
    ///
    /// # Errors
    /// Errors of compiling and loading kernels, or of a library.
    pub fn new(gpu: &Gpu, shape: ConvShape, norm: NormOptions<'_>) -> Result<Self, GpuError> {
        let conv = Conv::new(gpu, ConvPass::InputGrad, Float::F32, shape, false)?;
        let grouped = input(&shape, norm.groups);
        let reduce = Reduce::new(gpu, Float::F32, &grouped, norm.shared, norm.leak)?;
        Ok(Self { conv, reduce })
    }

    /// Bytes of workspace.
    pub fn workspace(&self) -> usize {
        self.conv.workspace().max(self.reduce.workspace())
    }

    /// Submits one run.
    ///
    /// # Errors
    /// If lengths do not fit; an error of a library or the driver.
    pub fn run(
        &self,
        gpu: &Gpu,
        from: (Span<'_>, Span<'_>),
        x: Span<'_>,
        [mean, scale, shift]: [Span<'_>; 3],
        dh: Span<'_>,
        sums: (Span<'_>, Span<'_>),
        workspace: Span<'_>,
    ) -> Result<(), GpuError> {
        self.conv.run(gpu, from, None, None, dh, part(workspace, 0, self.conv.workspace())?)?;
        let from = Inputs { x, dy: dh, mean, scale, shift };
        self.reduce.run(gpu, from, sums, part(workspace, 0, self.reduce.workspace())?)
    }
}

/// The gradient with respect to the filters, of an input that is normalised first. As [`super::WeightGrad`].
#[derive(Debug)]
pub struct WeightGrad {
    copy: Copy,
    conv: Conv,
}

impl WeightGrad {
    /// Prepares it for a shape.
    ///
    /// # Errors
    /// Errors of compiling and loading kernels, or of a library.
    pub fn new(gpu: &Gpu, shape: ConvShape, norm: NormOptions<'_>) -> Result<Self, GpuError> {
        let copy = Copy::new(gpu, &shape, norm)?;
        Ok(Self { copy, conv: Conv::new(gpu, ConvPass::WeightGrad, Float::F32, shape, false)? })
    }

    /// Bytes of workspace.
    pub fn workspace(&self) -> usize {
        self.copy.end() + self.conv.workspace()
    }

    /// Submits one run.
    ///
    /// # Errors
    /// If lengths do not fit; an error of a library or the driver.
    pub fn run(
        &self,
        gpu: &Gpu,
        x: Span<'_>,
        coefficients: [Span<'_>; 3],
        dy: Span<'_>,
        dw: Span<'_>,
        workspace: Span<'_>,
    ) -> Result<(), GpuError> {
        let copy = self.copy.run(gpu, x, coefficients, workspace)?;
        let rest = part(workspace, self.copy.end(), self.conv.workspace())?;
        self.conv.run(gpu, (copy, dy), None, None, dw, rest)
    }
}
