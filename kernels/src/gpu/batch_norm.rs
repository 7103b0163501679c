//! cuDNN's own batch norm over NHWC images: the oracle of the project's, which works in groups.
//!
//! What must hold: spans are as long as the shape says; a run neither allocates on the device nor waits.

use std::ffi::c_void;
use std::ptr;

use cudarc::cudnn::sys::cudnnBatchNormMode_t as Raw;
use cudarc::cudnn::sys::cudnnBatchNormOps_t::CUDNN_BATCHNORM_OPS_BN as PLAIN;
use cudarc::cudnn::sys::{self, cudnnTensorDescriptor_t};

use super::context::Gpu;
use super::desc::{Desc, check, tensor};
use super::error::GpuError;

use super::launch::{Float, exact};
use crate::memory::Span;

/// Which of cuDNN's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In two passes, for any values.
    Spatial,
    /// In one pass where the device allows; cuDNN says that it may overflow for some values.
    Persistent,
}

/// A prepared batch norm in training.
pub struct BatchNorm {
    mode: Raw,
    eps: f64,
    len: usize,
    channels: usize,
    images: Desc<cudnnTensorDescriptor_t>,
    parameters: Desc<cudnnTensorDescriptor_t>,
    workspace: usize,
    reserve: usize,
}

/// What a forward pass takes and gives, by channel but for x and y.
#[derive(Clone, Copy)]
pub struct Forward<'a> {
    /// Images.
    pub x: Span<'a>,
    /// γ.
    pub gamma: Span<'a>,
    /// β.
    pub beta: Span<'a>,
    /// The result.
    pub y: Span<'a>,
    /// The mean, kept for the gradient.
    pub mean: Span<'a>,
    /// 1/√(var + eps), kept for the gradient.
    pub inverse: Span<'a>,
}

/// What a gradient takes and gives, beside what the forward pass kept.
#[derive(Clone, Copy)]
pub struct Backward<'a> {
    /// The gradient by y.
    pub dy: Span<'a>,
    /// The gradient by x.
    pub dx: Span<'a>,
    /// The gradient by γ.
    pub dgamma: Span<'a>,
    /// The gradient by β.
    pub dbeta: Span<'a>,
}

const ONE: f32 = 1.0;
const ZERO: f32 = 0.0;

fn scalar(value: &'static f32) -> *const c_void {
    ptr::from_ref(value).cast()
}

fn from(span: Span<'_>) -> *const c_void {
    span.address() as *const c_void
}

fn to(span: Span<'_>) -> *mut c_void {
    span.address() as *mut c_void
}

impl BatchNorm {
    /// For images n × h × w × c of float32.
    ///
    /// # Errors
    /// Why there is no cuDNN, or what it answers; [`GpuError::Capturing`].
    pub fn new(gpu: &Gpu, [n, h, w, c]: [usize; 4], eps: f64, mode: Mode) -> Result<Self, GpuError> {
        gpu.not_capturing("preparing a batch norm")?;
        let cudnn = gpu.cudnn()?;
        let mode = match mode {
            Mode::Spatial => Raw::CUDNN_BATCHNORM_SPATIAL,
            Mode::Persistent => Raw::CUDNN_BATCHNORM_SPATIAL_PERSISTENT,
        };
        let (images, parameters) = (tensor(Float::F32, n, h, w, c)?, tensor(Float::F32, 1, 1, 1, c)?);
        let (x, p, none) = (images.raw, parameters.raw, ptr::null_mut());
        let (mut forward, mut backward, mut reserve) = (0usize, 0usize, 0usize);
        // SAFETY: the handle and the descriptors are good, and null stands for what plain batch norm has not; each
        // writes one size.
        unsafe {
            check(
                "asking for a batch norm's workspace",
                sys::cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(
                    cudnn.raw(),
                    mode,
                    PLAIN,
                    x,
                    none,
                    x,
                    p,
                    ptr::null_mut(),
                    &mut forward,
                ),
            )?;
            check(
                "asking for a batch norm gradient's workspace",
                sys::cudnnGetBatchNormalizationBackwardExWorkspaceSize(
                    cudnn.raw(),
                    mode,
                    PLAIN,
                    x,
                    none,
                    x,
                    none,
                    x,
                    p,
                    ptr::null_mut(),
                    &mut backward,
                ),
            )?;
            check(
                "asking for what a batch norm keeps",
                sys::cudnnGetBatchNormalizationTrainingExReserveSpaceSize(
                    cudnn.raw(),
                    mode,
                    PLAIN,
                    ptr::null_mut(),
                    x,
                    &mut reserve,
                ),
            )?;
        }
        let (len, workspace) = (n * h * w * c, forward.max(backward));
        Ok(Self { mode, eps, len, channels: c, images, parameters, workspace, reserve })
    }

    /// Bytes of workspace that a run needs, and bytes that are kept from the forward pass for the gradient.
    #[must_use]
    pub fn spaces(&self) -> (usize, usize) {
        (self.workspace, self.reserve)
    }

    fn check(
        &self,
        images: &[Span<'_>],
        channels: &[Span<'_>],
        spaces: [Span<'_>; 2],
    ) -> Result<(), GpuError> {
        for span in images {
            exact::<f32>("batch norm: images", *span, self.len)?;
        }
        for span in channels {
            exact::<f32>("batch norm: values by channel", *span, self.channels)?;
        }
        exact::<u8>("batch norm: workspace", spaces[0], self.workspace)?;
        exact::<u8>("batch norm: what is kept", spaces[1], self.reserve).map(|_| ())
    }

    /// Asks for y, mean and inverse deviation.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when lengths do not fit; what cuDNN answers.
    pub fn forward(&self, gpu: &Gpu, at: Forward<'_>, [space, kept]: [Span<'_>; 2]) -> Result<(), GpuError> {
        self.check(&[at.x, at.y], &[at.gamma, at.beta, at.mean, at.inverse], [space, kept])?;
        let cudnn = gpu.cudnn()?;
        gpu.bind()?;
        let (x, p, null) = (self.images.raw, self.parameters.raw, ptr::null_mut());
        // SAFETY: the handle and the descriptors are good; the spans are of live buffers of the lengths that the
        // descriptors say; null stands for running statistics, which are not wanted, and for what plain batch norm has
        // not.
        check("a batch norm", unsafe {
            sys::cudnnBatchNormalizationForwardTrainingEx(
                cudnn.raw(),
                self.mode,
                PLAIN,
                scalar(&ONE),
                scalar(&ZERO),
                x,
                from(at.x),
                ptr::null_mut(),
                ptr::null(),
                x,
                to(at.y),
                p,
                from(at.gamma),
                from(at.beta),
                1.0,
                null,
                null,
                self.eps,
                to(at.mean),
                to(at.inverse),
                ptr::null_mut(),
                to(space),
                self.workspace,
                to(kept),
                self.reserve,
            )
        })
    }

    /// Asks for the gradients by x, γ and β, after [`BatchNorm::forward`] on the same spans.
    ///
    /// # Errors
    /// As [`BatchNorm::forward`].
    pub fn backward(
        &self,
        gpu: &Gpu,
        at: Forward<'_>,
        grad: Backward<'_>,
        [space, kept]: [Span<'_>; 2],
    ) -> Result<(), GpuError> {
        let channels = [at.gamma, at.beta, at.mean, at.inverse, grad.dgamma, grad.dbeta];
        self.check(&[at.x, at.y, grad.dy, grad.dx], &channels, [space, kept])?;
        let cudnn = gpu.cudnn()?;
        gpu.bind()?;
        let (x, p) = (self.images.raw, self.parameters.raw);
        // SAFETY: as in `forward`.
        check("a batch norm's gradient", unsafe {
            sys::cudnnBatchNormalizationBackwardEx(
                cudnn.raw(),
                self.mode,
                PLAIN,
                scalar(&ONE),
                scalar(&ZERO),
                scalar(&ONE),
                scalar(&ZERO),
                x,
                from(at.x),
                x,
                from(at.y),
                x,
                from(grad.dy),
                ptr::null_mut(),
                ptr::null_mut(),
                x,
                to(grad.dx),
                p,
                from(at.gamma),
                from(at.beta),
                to(grad.dgamma),
                to(grad.dbeta),
                self.eps,
                from(at.mean),
                from(at.inverse),
                ptr::null_mut(),
                to(space),
                self.workspace,
                to(kept),
                self.reserve,
            )
        })
    }
}
