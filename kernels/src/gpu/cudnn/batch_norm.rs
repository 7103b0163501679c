//! cuDNN's own batch norm over NHWC images, in training mode: the reference for the project's own, which works in
//! groups.
//!
//! What must hold: spans are as long as the shape says; a run neither allocates on the device nor waits.

use std::ffi::c_void;
use std::ptr;

use cudarc::cudnn::sys::cudnnBatchNormMode_t as Raw;
use cudarc::cudnn::sys::cudnnBatchNormOps_t::CUDNN_BATCHNORM_OPS_BN as PLAIN;
use cudarc::cudnn::sys::cudnnTensorDescriptor_t;

use super::descriptors::{Tensor, tensor};
use super::{Cudnn, check};
use crate::dtype::Float;
use crate::gpu::driver::Gpu;
use crate::gpu::error::GpuError;
use crate::gpu::launch::exact;
use crate::memory::Span;

/// Which of cuDNN's kernels to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The two-pass kernels, which are safe for any values.
    Spatial,
    /// The one-pass kernels where the device supports them; according to cuDNN they may overflow for some values.
    Persistent,
}

/// A prepared batch norm in training mode.
pub struct BatchNorm {
    mode: Raw,
    eps: f64,
    len: usize,
    channels: usize,
    images: Tensor,
    parameters: Tensor,
    workspace: usize,
    reserve: usize,
}

/// Inputs and results of a forward pass: x and y are images, the others have one value per channel.
#[derive(Clone, Copy)]
pub struct Forward<'a> {
    /// The input.
    pub x: Span<'a>,
    /// The scale γ.
    pub gamma: Span<'a>,
    /// The shift β.
    pub beta: Span<'a>,
    /// The output.
    pub y: Span<'a>,
    /// The mean, saved for the gradient.
    pub mean: Span<'a>,
    /// 1/√(var + eps), saved for the gradient.
    pub inverse: Span<'a>,
}

/// Inputs and results of a backward pass, besides what the forward pass saved.
#[derive(Clone, Copy)]
pub struct Backward<'a> {
    /// The gradient with respect to y.
    pub dy: Span<'a>,
    /// The gradient with respect to x.
    pub dx: Span<'a>,
    /// The gradient with respect to γ.
    pub dgamma: Span<'a>,
    /// The gradient with respect to β.
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

/// Bytes of workspace, the larger of both passes', and bytes of reserve space, for images `x` and parameters `p`.
fn space(
    cudnn: &Cudnn,
    mode: Raw,
    x: cudnnTensorDescriptor_t,
    p: cudnnTensorDescriptor_t,
) -> Result<(usize, usize), GpuError> {
    let (handle, none, plain) = (cudnn.raw(), ptr::null_mut(), ptr::null_mut());
    let call = cudnn.functions;
    let (mut forward, mut backward, mut reserve) = (0usize, 0usize, 0usize);
    // Null stands for the tensor that is added before the activation and for the activation: plain batch norm has
    // neither. Each call writes one size.
    // SAFETY: the handle and the descriptors are good; null is allowed where plain batch norm has no descriptor.
    let status = unsafe {
        (call.cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize)(
            handle,
            mode,
            PLAIN,
            x,
            none,
            x,
            p,
            plain,
            &mut forward,
        )
    };
    check("querying a batch norm's workspace", status)?;
    // SAFETY: as above.
    let status = unsafe {
        (call.cudnnGetBatchNormalizationBackwardExWorkspaceSize)(
            handle,
            mode,
            PLAIN,
            x,
            none,
            x,
            none,
            x,
            p,
            plain,
            &mut backward,
        )
    };
    check("querying a batch norm gradient's workspace", status)?;
    // SAFETY: as above.
    let status = unsafe {
        (call.cudnnGetBatchNormalizationTrainingExReserveSpaceSize)(
            handle,
            mode,
            PLAIN,
            plain,
            x,
            &mut reserve,
        )
    };
    check("querying a batch norm's reserve space", status)?;
    Ok((forward.max(backward), reserve))
}

impl BatchNorm {
    /// Prepares a batch norm over float32 images of n × h × w × c.
    ///
    /// # Errors
    /// Why cuDNN cannot be used, or its error; [`GpuError::Capturing`].
    pub fn new(gpu: &Gpu, [n, h, w, c]: [usize; 4], eps: f64, mode: Mode) -> Result<Self, GpuError> {
        gpu.not_capturing("preparing a batch norm")?;
        let cudnn = gpu.cudnn()?;
        let mode = match mode {
            Mode::Spatial => Raw::CUDNN_BATCHNORM_SPATIAL,
            Mode::Persistent => Raw::CUDNN_BATCHNORM_SPATIAL_PERSISTENT,
        };
        let (images, parameters) = (tensor(Float::F32, [n, h, w, c])?, tensor(Float::F32, [1, 1, 1, c])?);
        let (workspace, reserve) = space(&cudnn, mode, images.raw, parameters.raw)?;
        Ok(Self { mode, eps, len: n * h * w * c, channels: c, images, parameters, workspace, reserve })
    }

    /// Bytes of workspace that a run needs, and bytes of reserve space, which carries data from the forward pass to the
    /// backward pass.
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
            exact::<f32>("batch norm: values per channel", *span, self.channels)?;
        }
        exact::<u8>("batch norm: workspace", spaces[0], self.workspace)?;
        exact::<u8>("batch norm: reserve space", spaces[1], self.reserve).map(|_| ())
    }

    /// Submits the forward pass: y, mean and 1/√(var + eps). `[space, reserve]` as [`BatchNorm::spaces`] says.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when lengths do not fit; cuDNN's error.
    pub fn forward(
        &self,
        gpu: &Gpu,
        at: Forward<'_>,
        [space, reserve]: [Span<'_>; 2],
    ) -> Result<(), GpuError> {
        self.check(&[at.x, at.y], &[at.gamma, at.beta, at.mean, at.inverse], [space, reserve])?;
        let cudnn = gpu.cudnn()?;
        gpu.bind()?;
        let call = cudnn.functions;
        let (x, p, null) = (self.images.raw, self.parameters.raw, ptr::null_mut());
        // SAFETY: the handle and the descriptors are good; the spans are of live buffers of the lengths that the
        // descriptors say; null stands for the running statistics, which are not updated, and for the tensors that
        // plain batch norm does not have.
        check("a batch norm", unsafe {
            (call.cudnnBatchNormalizationForwardTrainingEx)(
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
                to(reserve),
                self.reserve,
            )
        })
    }

    /// Submits the gradients with respect to x, γ and β, after [`BatchNorm::forward`] on the same spans.
    ///
    /// # Errors
    /// As [`BatchNorm::forward`].
    pub fn backward(
        &self,
        gpu: &Gpu,
        at: Forward<'_>,
        grad: Backward<'_>,
        [space, reserve]: [Span<'_>; 2],
    ) -> Result<(), GpuError> {
        let channels = [at.gamma, at.beta, at.mean, at.inverse, grad.dgamma, grad.dbeta];
        self.check(&[at.x, at.y, grad.dy, grad.dx], &channels, [space, reserve])?;
        let cudnn = gpu.cudnn()?;
        gpu.bind()?;
        let call = cudnn.functions;
        let (x, p) = (self.images.raw, self.parameters.raw);
        // SAFETY: as in `forward`.
        check("a batch norm's gradient", unsafe {
            (call.cudnnBatchNormalizationBackwardEx)(
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
                to(reserve),
                self.reserve,
            )
        })
    }
}
