//! Convolutions by cuDNN: float32 or bf16, added up in float32, NHWC with KRSC filters.
//!
//! What must hold: only algorithms that add in a fixed order are used, so the same input gives the same bits (see
//! [`super::plans`]). A run neither allocates nor waits, so it can be captured.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use cudarc::cudnn::sys::{self, cudnnStatus_t};
use cudarc::driver::CudaStream;

use super::context::{Gpu, Precision};
use super::desc::{Desc, check, convolution, filter, tensor};
use super::error::GpuError;
use super::launch::{Float, exact};
use super::libs::{Id, libraries};
use super::plans::{Algorithm, Candidate, candidates};
pub use crate::cpu::conv::ConvShape;
use crate::memory::Span;

/// A handle of cuDNN. Not to be used from several threads at once (it is not `Sync`).
#[derive(Debug)]
pub(crate) struct Cudnn {
    handle: sys::cudnnHandle_t,
    stream: Arc<CudaStream>,
}

// SAFETY: cuDNN lets any thread use a handle, one at a time; it is not `Sync`, so it has one user at a time.
unsafe impl Send for Cudnn {}

impl Cudnn {
    /// A handle for a device.
    ///
    /// # Errors
    /// Why there is no cuDNN, or what it answers.
    pub(crate) fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        libraries().require(Id::Cudnn)?;
        gpu.not_capturing("making a cuDNN handle")?;
        gpu.bind()?;
        let mut cudnn = Self { handle: ptr::null_mut(), stream: gpu.stream().clone() };
        // SAFETY: the symbol is there, and a device is bound to this thread; it writes one handle.
        check("cudnnCreate", unsafe { sys::cudnnCreate(&mut cudnn.handle) })?;
        // SAFETY: the handle is good, and the stream lives as long as `cudnn`.
        check("cudnnSetStream", unsafe { sys::cudnnSetStream(cudnn.handle, gpu.raw_stream().cast()) })?;
        Ok(cudnn)
    }
}

impl Cudnn {
    /// The handle itself, which lives as long as this does.
    pub(super) fn raw(&self) -> sys::cudnnHandle_t {
        self.handle
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // Its work may be under way. An error here is met again by the next call.
            let _ = self.stream.synchronize();
            // SAFETY: made by cudnnCreate and destroyed once.
            let _ = unsafe { sys::cudnnDestroy(self.handle) };
        }
    }
}

/// What a convolution gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gives {
    /// The output, from input and filters.
    Output,
    /// The gradient by the input, from the output's and the filters.
    Input,
    /// The gradient by the filters, from the input and the output's.
    Filters,
}

/// A convolution with its descriptors and its algorithm.
pub struct Convolution {
    pub(super) gives: Gives,
    pub(super) float: Float,
    /// How its products may be formed.
    pub(super) precision: Precision,
    pub(super) shape: ConvShape,
    x: Desc<sys::cudnnTensorDescriptor_t>,
    w: Desc<sys::cudnnFilterDescriptor_t>,
    y: Desc<sys::cudnnTensorDescriptor_t>,
    conv: Desc<sys::cudnnConvolutionDescriptor_t>,
    candidate: Candidate,
    workspace: usize,
}

const ONE: f32 = 1.0;
const ZERO: f32 = 0.0;

fn scalar(value: &'static f32) -> *const c_void {
    ptr::from_ref(value).cast()
}

/// The addresses of a run.
#[derive(Clone, Copy)]
pub(super) struct Places {
    pub(super) a: u64,
    pub(super) b: u64,
    pub(super) out: u64,
    pub(super) space: u64,
    pub(super) more: bool,
}

impl Convolution {
    /// Prepares a convolution whose inputs and result are of type `float`: its algorithm is the fastest of those that cuDNN
    /// takes, measured once for a shape.
    ///
    /// # Errors
    /// Why there is no cuDNN, or what it answers; [`GpuError::Capturing`].
    pub fn new(gpu: &Gpu, gives: Gives, float: Float, shape: ConvShape) -> Result<Self, GpuError> {
        let ConvShape { n, h, w, c, k, r, s, stride, pad } = shape;
        gpu.not_capturing("preparing a convolution")?;
        let cudnn = gpu.cudnn()?;
        // What is float32 on a device that computes in bf16 is meant to be exact.
        let precision = match (float, gpu.precision()) {
            (Float::Bf16, _) => Precision::Bf16,
            (Float::F32, Precision::Bf16) => Precision::F32,
            (Float::F32, precision) => precision,
        };
        let mut conv = Self {
            gives,
            float,
            shape,
            precision,
            x: tensor(float, n, h, w, c)?,
            w: filter(float, k, r, s, c)?,
            y: tensor(float, n, shape.oh(), shape.ow(), k)?,
            conv: convolution(pad, stride)?,
            candidate: candidates(gives, precision)[0],
            workspace: 0,
        };
        conv.choose(gpu, &cudnn)?;
        Ok(conv)
    }

    /// Values of the two inputs and of the result.
    pub(super) fn lengths(&self) -> (usize, usize, usize) {
        let (x, w, y) = (self.shape.x_len(), self.shape.w_len(), self.shape.y_len());
        match self.gives {
            Gives::Output => (x, w, y),
            Gives::Input => (y, w, x),
            Gives::Filters => (x, y, w),
        }
    }

    pub(super) fn take(&mut self, candidate: Candidate, workspace: usize) {
        (self.candidate, self.workspace) = (candidate, workspace);
    }

    /// Bytes of workspace that a run needs.
    #[must_use]
    pub fn workspace(&self) -> usize {
        self.workspace
    }

    /// The algorithm and how it forms its products, by cuDNN's names.
    #[must_use]
    pub fn algorithm(&self) -> String {
        self.candidate.name()
    }

    /// The result from both inputs (see [`Gives`]), added to what `out` holds if `more`. May be captured.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the lengths do not fit; what cuDNN answers.
    pub fn run(
        &self,
        gpu: &Gpu,
        (a, b): (Span<'_>, Span<'_>),
        more: bool,
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
        self.call(&cudnn, self.candidate, self.workspace, Places { a, b, out, space, more })
    }

    pub(super) fn workspace_of(&self, cudnn: &Cudnn, candidate: Candidate) -> Result<usize, GpuError> {
        self.conv.set_math(candidate.math)?;
        let (h, xd, wd, yd, cd) = (cudnn.handle, self.x.raw, self.w.raw, self.y.raw, self.conv.raw);
        let mut bytes = 0;
        // SAFETY: the handle and the descriptors are good; each writes one size.
        let status: cudnnStatus_t = unsafe {
            match candidate.algorithm {
                Algorithm::Output(a) => {
                    sys::cudnnGetConvolutionForwardWorkspaceSize(h, xd, wd, cd, yd, a, &mut bytes)
                }
                Algorithm::Input(a) => {
                    sys::cudnnGetConvolutionBackwardDataWorkspaceSize(h, wd, yd, cd, xd, a, &mut bytes)
                }
                Algorithm::Filters(a) => {
                    sys::cudnnGetConvolutionBackwardFilterWorkspaceSize(h, xd, yd, cd, wd, a, &mut bytes)
                }
            }
        };
        check("asking for a convolution's workspace", status)?;
        Ok(bytes)
    }

    /// Asks for one run. The addresses are of buffers of [`Self::lengths`] and of `bytes` of workspace.
    pub(super) fn call(
        &self,
        cudnn: &Cudnn,
        candidate: Candidate,
        bytes: usize,
        at: Places,
    ) -> Result<(), GpuError> {
        self.conv.set_math(candidate.math)?;
        let (h, xd, wd, yd, cd) = (cudnn.handle, self.x.raw, self.w.raw, self.y.raw, self.conv.raw);
        let (one, beta) = (scalar(&ONE), scalar(if at.more { &ONE } else { &ZERO }));
        let (a, b, out) = (at.a as *const c_void, at.b as *const c_void, at.out as *mut c_void);
        let space = if bytes == 0 { ptr::null_mut() } else { at.space as *mut c_void };
        // SAFETY: the handle and the descriptors are good; the callers have checked that the buffers have the lengths
        // that these say and the workspace its size; all live until work after this on the stream frees them.
        let status: cudnnStatus_t = unsafe {
            match candidate.algorithm {
                Algorithm::Output(f) => {
                    sys::cudnnConvolutionForward(h, one, xd, a, wd, b, cd, f, space, bytes, beta, yd, out)
                }
                Algorithm::Input(f) => sys::cudnnConvolutionBackwardData(
                    h, one, wd, b, yd, a, cd, f, space, bytes, beta, xd, out,
                ),
                Algorithm::Filters(f) => sys::cudnnConvolutionBackwardFilter(
                    h, one, xd, a, yd, b, cd, f, space, bytes, beta, wd, out,
                ),
            }
        };
        check("a convolution", status)
    }
}
