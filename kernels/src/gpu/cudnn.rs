//! Convolutions by cuDNN: float32 or bf16, added up in float32, NHWC with KRSC filters.
//!
//! What must hold: only algorithms that add in a fixed order are used, so the same input gives the same bits; the same
//! shape gets the same algorithm through all of a process, and by way of the store in later ones too. A run neither
//! allocates nor waits, so it can be captured.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::cudnn::sys::cudnnConvolutionFwdAlgo_t as Fwd;
use cudarc::cudnn::sys::{self, cudnnStatus_t};
use cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t as BwdData, cudnnConvolutionBwdFilterAlgo_t as BwdFilter,
};
use cudarc::driver::CudaStream;

use super::context::{Buffer, Gpu, Precision};
use super::desc::{Desc, check, convolution, filter, tensor};
use super::error::GpuError;
use super::launch::{Float, exact};
use super::libs::{Id, Status, libraries};
use super::store;
pub use crate::cpu::conv::ConvShape;
use crate::memory::Span;

/// More workspace than this is not asked for.
const MOST_WORKSPACE: usize = 256 << 20;
/// Runs of a candidate that are timed, after one that is not.
const TIMED: u32 = 3;

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

#[derive(Clone, Copy, Debug, PartialEq)]
enum Algorithm {
    Output(Fwd),
    Input(BwdData),
    Filters(BwdFilter),
}

/// In the order of trying. Left out are those that add in an order that varies (data 0, filter 0 and 3), and those by
/// transforms, whose errors are larger.
fn candidates(gives: Gives) -> &'static [Algorithm] {
    match gives {
        Gives::Output => &[
            Algorithm::Output(Fwd::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM),
            Algorithm::Output(Fwd::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM),
        ],
        Gives::Input => &[Algorithm::Input(BwdData::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1)],
        Gives::Filters => &[Algorithm::Filters(BwdFilter::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1)],
    }
}

/// A convolution with its descriptors and its algorithm.
pub struct Convolution {
    gives: Gives,
    float: Float,
    shape: ConvShape,
    x: Desc<sys::cudnnTensorDescriptor_t>,
    w: Desc<sys::cudnnFilterDescriptor_t>,
    y: Desc<sys::cudnnTensorDescriptor_t>,
    conv: Desc<sys::cudnnConvolutionDescriptor_t>,
    algorithm: Algorithm,
    workspace: usize,
}

const ONE: f32 = 1.0;
const ZERO: f32 = 0.0;

fn scalar(value: &'static f32) -> *const c_void {
    ptr::from_ref(value).cast()
}

/// The addresses of a run.
#[derive(Clone, Copy)]
struct Places {
    a: u64,
    b: u64,
    out: u64,
    space: u64,
    more: bool,
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
            x: tensor(float, n, h, w, c)?,
            w: filter(float, k, r, s, c)?,
            y: tensor(float, n, shape.oh(), shape.ow(), k)?,
            conv: convolution(pad, stride, precision)?,
            algorithm: candidates(gives)[0],
            workspace: 0,
        };
        conv.choose(gpu, &cudnn)?;
        Ok(conv)
    }

    /// Values of the two inputs and of the result.
    fn lengths(&self) -> (usize, usize, usize) {
        let (x, w, y) = (self.shape.x_len(), self.shape.w_len(), self.shape.y_len());
        match self.gives {
            Gives::Output => (x, w, y),
            Gives::Input => (y, w, x),
            Gives::Filters => (x, y, w),
        }
    }

    fn choose(&mut self, gpu: &Gpu, cudnn: &Cudnn) -> Result<(), GpuError> {
        let question = self.question(gpu);
        let folder = store::folder();
        let kept = || store::get(folder.as_deref(), question.as_bytes())?.first().map(|&i| usize::from(i));
        if let Some(i) = gpu.choice(&question).or_else(kept)
            && let Some(&algorithm) = candidates(self.gives).get(i)
            && self.workspace_of(cudnn, algorithm).is_ok_and(|bytes| self.take(algorithm, bytes))
        {
            gpu.choose(question, i);
            return Ok(());
        }
        let best = self.measure(gpu, cudnn)?;
        store::put(folder.as_deref(), question.as_bytes(), &[best as u8]);
        gpu.choose(question, best);
        Ok(())
    }

    /// Everything that the choice may depend on.
    fn question(&self, gpu: &Gpu) -> String {
        let version = match libraries().require(Id::Cudnn).map(|l| &l.status) {
            Ok(Status::Found { version, .. }) => version.to_string(),
            _ => String::new(),
        };
        let (device, precision) = (&gpu.device().name, gpu.precision());
        format!(
            "cuDNN {version}, {device}, {precision:?}, {:?}, {:?}, {:?}",
            self.float, self.gives, self.shape
        )
    }

    fn take(&mut self, algorithm: Algorithm, workspace: usize) -> bool {
        (self.algorithm, self.workspace) = (algorithm, workspace);
        workspace <= MOST_WORKSPACE
    }

    /// Takes the fastest candidate; its number.
    fn measure(&mut self, gpu: &Gpu, cudnn: &Cudnn) -> Result<usize, GpuError> {
        let (a, b, out) = self.lengths();
        let zeros = |n: usize| gpu.zeros::<u8>(n * self.float.size());
        let (a, b, out) = (zeros(a)?, zeros(b)?, zeros(out)?);
        let mut refusal = GpuError::shape("convolution", "no algorithm has a workspace small enough");
        let mut best: Option<(Duration, usize, usize)> = None;
        for (i, &algorithm) in candidates(self.gives).iter().enumerate() {
            match self.time(gpu, cudnn, algorithm, [&a, &b, &out]) {
                Ok(None) => {}
                // A later one must be clearly faster.
                Ok(Some((time, bytes))) if best.is_none_or(|(t, ..)| time < t.mul_f64(0.95)) => {
                    best = Some((time, i, bytes));
                }
                Ok(Some(_)) => {}
                Err(error) => refusal = error,
            }
        }
        let Some((_, i, bytes)) = best else { return Err(refusal) };
        self.take(candidates(self.gives)[i], bytes);
        Ok(i)
    }

    /// How long an algorithm takes, and its workspace; none if that is too large.
    fn time(
        &self,
        gpu: &Gpu,
        cudnn: &Cudnn,
        algorithm: Algorithm,
        [a, b, out]: [&Buffer<u8>; 3],
    ) -> Result<Option<(Duration, usize)>, GpuError> {
        let bytes = self.workspace_of(cudnn, algorithm)?;
        if bytes > MOST_WORKSPACE {
            return Ok(None);
        }
        let space = gpu.zeros::<u8>(bytes)?;
        let places = Places {
            a: gpu.pointer(a)?,
            b: gpu.pointer(b)?,
            out: gpu.pointer(out)?,
            space: gpu.pointer(&space)?,
            more: false,
        };
        self.call(cudnn, algorithm, bytes, places)?;
        gpu.synchronize()?;
        let start = Instant::now();
        for _ in 0..TIMED {
            self.call(cudnn, algorithm, bytes, places)?;
        }
        gpu.synchronize()?;
        Ok(Some((start.elapsed(), bytes)))
    }

    /// Bytes of workspace that a run needs.
    #[must_use]
    pub fn workspace(&self) -> usize {
        self.workspace
    }

    /// The algorithm, by cuDNN's name.
    #[must_use]
    pub fn algorithm(&self) -> String {
        match self.algorithm {
            Algorithm::Output(a) => format!("{a:?}"),
            Algorithm::Input(a) => format!("{a:?}"),
            Algorithm::Filters(a) => format!("{a:?}"),
        }
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
        self.call(&cudnn, self.algorithm, self.workspace, Places { a, b, out, space, more })
    }

    fn workspace_of(&self, cudnn: &Cudnn, algorithm: Algorithm) -> Result<usize, GpuError> {
        let (h, xd, wd, yd, cd) = (cudnn.handle, self.x.raw, self.w.raw, self.y.raw, self.conv.raw);
        let mut bytes = 0;
        // SAFETY: the handle and the descriptors are good; each writes one size.
        let status: cudnnStatus_t = unsafe {
            match algorithm {
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
    fn call(&self, cudnn: &Cudnn, algorithm: Algorithm, bytes: usize, at: Places) -> Result<(), GpuError> {
        let (h, xd, wd, yd, cd) = (cudnn.handle, self.x.raw, self.w.raw, self.y.raw, self.conv.raw);
        let (one, beta) = (scalar(&ONE), scalar(if at.more { &ONE } else { &ZERO }));
        let (a, b, out) = (at.a as *const c_void, at.b as *const c_void, at.out as *mut c_void);
        let space = if bytes == 0 { ptr::null_mut() } else { at.space as *mut c_void };
        // SAFETY: the handle and the descriptors are good; the callers have checked that the buffers have the lengths
        // that these say and the workspace its size; all live until work after this on the stream frees them.
        let status: cudnnStatus_t = unsafe {
            match algorithm {
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
