//! Convolutions by cuDNN: float32 or bf16, accumulated in float32, NHWC images with KRSC filters.
//!
//! What must hold: only algorithms that add in a fixed order are used, so that the same input gives the same bits (see
//! [`super::candidates`]). A run neither allocates nor waits, so it can be captured.

use std::ffi::c_void;
use std::ptr;

use cudarc::cudnn::sys::{self, cudnnStatus_t};

use super::candidates::{Algorithm, Candidate, candidates};
use super::descriptors::{Descriptor, convolution, filter, tensor};
use super::{Cudnn, check};
use crate::conv_shape::ConvShape;
use crate::dtype::Float;
use crate::gpu::driver::{Gpu, Precision};
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

/// A convolution with its descriptors and its algorithm.
pub struct Convolution {
    pub(super) pass: ConvPass,
    pub(super) float: Float,
    /// The precision of its products.
    pub(super) precision: Precision,
    pub(super) shape: ConvShape,
    x: Descriptor<sys::cudnnTensorDescriptor_t>,
    w: Descriptor<sys::cudnnFilterDescriptor_t>,
    y: Descriptor<sys::cudnnTensorDescriptor_t>,
    conv: Descriptor<sys::cudnnConvolutionDescriptor_t>,
    candidate: Candidate,
    workspace: usize,
}

const ONE: f32 = 1.0;
const ZERO: f32 = 0.0;

fn scalar(value: &'static f32) -> *const c_void {
    ptr::from_ref(value).cast()
}

/// Device addresses of a run: inputs, result and workspace; and whether the result is added to `out`.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    pub(super) a: u64,
    pub(super) b: u64,
    pub(super) out: u64,
    pub(super) space: u64,
    pub(super) accumulate: bool,
}

impl Convolution {
    /// Prepares a convolution whose inputs and result are of type `float`, with the fastest algorithm that cuDNN
    /// supports, measured once per shape.
    ///
    /// # Errors
    /// Why cuDNN cannot be used, or its error; [`GpuError::Capturing`].
    pub fn new(gpu: &Gpu, pass: ConvPass, float: Float, shape: ConvShape) -> Result<Self, GpuError> {
        let ConvShape { n, h, w, c, k, r, s, stride, pad } = shape;
        gpu.not_capturing("preparing a convolution")?;
        let cudnn = gpu.cudnn()?;
        // On a device that computes in bf16, the layers left in float32 are meant to be exact.
        let precision = match (float, gpu.precision()) {
            (Float::Bf16, _) => Precision::Bf16,
            (Float::F32, Precision::Bf16) => Precision::F32,
            (Float::F32, precision) => precision,
        };
        let mut conv = Self {
            pass,
            float,
            shape,
            precision,
            x: tensor(float, n, h, w, c)?,
            w: filter(float, k, r, s, c)?,
            y: tensor(float, n, shape.oh(), shape.ow(), k)?,
            conv: convolution(pad, stride)?,
            candidate: candidates(pass, precision)[0],
            workspace: 0,
        };
        conv.choose(gpu, &cudnn)?;
        Ok(conv)
    }

    /// Number of values of the two inputs and of the result.
    pub(super) fn lengths(&self) -> (usize, usize, usize) {
        let (x, w, y) = (self.shape.x_len(), self.shape.w_len(), self.shape.y_len());
        match self.pass {
            ConvPass::Forward => (x, w, y),
            ConvPass::InputGrad => (y, w, x),
            ConvPass::WeightGrad => (x, y, w),
        }
    }

    /// Uses this candidate, which needs `workspace` bytes of workspace.
    pub(super) fn set(&mut self, candidate: Candidate, workspace: usize) {
        (self.candidate, self.workspace) = (candidate, workspace);
    }

    /// Bytes of workspace that a run needs.
    #[must_use]
    pub fn workspace(&self) -> usize {
        self.workspace
    }

    /// The algorithm and its math type, by cuDNN's names.
    #[must_use]
    pub fn algorithm(&self) -> String {
        self.candidate.name()
    }

    /// Computes the result from both inputs (see [`ConvPass`]); `accumulate` adds it to what `out` holds. May be
    /// captured.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the lengths do not fit; cuDNN's error.
    pub fn run(
        &self,
        gpu: &Gpu,
        (a, b): (Span<'_>, Span<'_>),
        accumulate: bool,
        out: Span<'_>,
        workspace: Span<'_>,
    ) -> Result<(), GpuError> {
        let (a_len, b_len, out_len) = self.lengths();
        self.float.exact("convolution: first input", a, a_len)?;
        self.float.exact("convolution: second input", b, b_len)?;
        self.float.exact("convolution: result", out, out_len)?;
        exact::<u8>("convolution: workspace", workspace, self.workspace)?;
        let cudnn = gpu.cudnn()?;
        gpu.bind()?;
        let (a, b, out, space) = (a.address(), b.address(), out.address(), workspace.address());
        self.call(&cudnn, self.candidate, self.workspace, Operands { a, b, out, space, accumulate })
    }

    /// Bytes of workspace that a candidate needs.
    pub(super) fn workspace_of(&self, cudnn: &Cudnn, candidate: Candidate) -> Result<usize, GpuError> {
        self.conv.set_math(candidate.math)?;
        let (h, xd, wd, yd, cd) = (cudnn.raw(), self.x.raw, self.w.raw, self.y.raw, self.conv.raw);
        let mut bytes = 0;
        // SAFETY: the handle and the descriptors are good; each writes one size.
        let status: cudnnStatus_t = unsafe {
            match candidate.algorithm {
                Algorithm::Forward(a) => {
                    sys::cudnnGetConvolutionForwardWorkspaceSize(h, xd, wd, cd, yd, a, &mut bytes)
                }
                Algorithm::InputGrad(a) => {
                    sys::cudnnGetConvolutionBackwardDataWorkspaceSize(h, wd, yd, cd, xd, a, &mut bytes)
                }
                Algorithm::WeightGrad(a) => {
                    sys::cudnnGetConvolutionBackwardFilterWorkspaceSize(h, xd, yd, cd, wd, a, &mut bytes)
                }
            }
        };
        check("querying a convolution's workspace", status)?;
        Ok(bytes)
    }

    /// Submits one run. The addresses must be those of buffers of [`Self::lengths`] and of `bytes` of workspace.
    pub(super) fn call(
        &self,
        cudnn: &Cudnn,
        candidate: Candidate,
        bytes: usize,
        at: Operands,
    ) -> Result<(), GpuError> {
        self.conv.set_math(candidate.math)?;
        let (h, xd, wd, yd, cd) = (cudnn.raw(), self.x.raw, self.w.raw, self.y.raw, self.conv.raw);
        let (one, beta) = (scalar(&ONE), scalar(if at.accumulate { &ONE } else { &ZERO }));
        let (a, b, out) = (at.a as *const c_void, at.b as *const c_void, at.out as *mut c_void);
        let space = if bytes == 0 { ptr::null_mut() } else { at.space as *mut c_void };
        // SAFETY: the handle and the descriptors are good; the callers have checked that the buffers are as long as the
        // descriptors say and the workspace as large as needed; all live until work after this on the stream frees
        // them.
        let status: cudnnStatus_t = unsafe {
            match candidate.algorithm {
                Algorithm::Forward(f) => {
                    sys::cudnnConvolutionForward(h, one, xd, a, wd, b, cd, f, space, bytes, beta, yd, out)
                }
                Algorithm::InputGrad(f) => sys::cudnnConvolutionBackwardData(
                    h, one, wd, b, yd, a, cd, f, space, bytes, beta, xd, out,
                ),
                Algorithm::WeightGrad(f) => sys::cudnnConvolutionBackwardFilter(
                    h, one, xd, a, yd, b, cd, f, space, bytes, beta, wd, out,
                ),
            }
        };
        check("a convolution", status)
    }
}
