//! Convolutions by cuDNN, as far as the self-test needs: float32, NHWC with KRSC weights, stride 1, no TF32.
//!
//! What must hold: algorithms are tried in a fixed order, so the choice depends on
//! the shape and the library alone; capturing is refused, since a workspace lives for one call.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use cudarc::cudnn::sys::{self, cudnnConvolutionBwdDataAlgo_t as BwdData, cudnnStatus_t};
use cudarc::cudnn::sys::{cudnnConvolutionBwdFilterAlgo_t as BwdFilter, cudnnConvolutionFwdAlgo_t as Fwd};
use cudarc::driver::CudaStream;

use super::context::{Buffer, Gpu};
use super::desc::{Desc, check, convolution, filter, tensor};
use super::error::GpuError;
use super::libs::{Id, libraries};

/// More workspace than this is not asked for.
const MOST_WORKSPACE: usize = 256 << 20;

/// A convolution's sizes: `n` images of `h × w × c`, `k` filters of `r × r × c` with `r` odd, padded to keep the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ConvShape {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub k: usize,
    pub r: usize,
}

impl ConvShape {
    /// Values in the input, the filters and the output.
    #[must_use]
    pub fn lengths(&self) -> (usize, usize, usize) {
        let pixels = self.n * self.h * self.w;
        (pixels * self.c, self.k * self.r * self.r * self.c, pixels * self.k)
    }
}

/// A handle of cuDNN. Not to be used from several threads at once (it is not `Sync`).
#[derive(Debug)]
pub struct Cudnn {
    handle: sys::cudnnHandle_t,
    stream: Arc<CudaStream>,
}

impl Cudnn {
    /// A handle for a device.
    ///
    /// # Errors
    /// Why there is no cuDNN, or what it answers.
    pub fn new(gpu: &Gpu) -> Result<Self, GpuError> {
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

    /// A convolution of this shape.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when `r` is even or a size is nothing or too large; what cuDNN answers.
    pub fn conv(&self, shape: ConvShape) -> Result<Conv<'_>, GpuError> {
        let ConvShape { n, h, w, c, k, r } = shape;
        if r % 2 == 0 || [n, h, w, c, k].contains(&0) {
            return Err(GpuError::shape("convolution", format!("{shape:?}")));
        }
        Ok(Conv {
            cudnn: self,
            shape,
            x: tensor(n, h, w, c)?,
            w: filter(k, r, c)?,
            y: tensor(n, h, w, k)?,
            conv: convolution(r)?,
        })
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

/// A convolution with its descriptors.
pub struct Conv<'a> {
    cudnn: &'a Cudnn,
    shape: ConvShape,
    x: Desc<sys::cudnnTensorDescriptor_t>,
    w: Desc<sys::cudnnFilterDescriptor_t>,
    y: Desc<sys::cudnnTensorDescriptor_t>,
    conv: Desc<sys::cudnnConvolutionDescriptor_t>,
}

const ONE: f32 = 1.0;
const ZERO: f32 = 0.0;

fn scalar(value: &'static f32) -> *const c_void {
    ptr::from_ref(value).cast()
}

impl Conv<'_> {
    /// `y = x ∗ w`; the algorithm used.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the lengths do not fit; what cuDNN answers; [`GpuError::Capturing`].
    pub fn forward(
        &self,
        gpu: &Gpu,
        x: &Buffer<f32>,
        w: &Buffer<f32>,
        y: &mut Buffer<f32>,
    ) -> Result<String, GpuError> {
        let (x, w, y) = self.pointers(gpu, x, w, y)?;
        let algorithms = [
            Fwd::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
            Fwd::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
        ];
        let handle = self.cudnn.handle;
        let (xd, wd, yd, cd) = (self.x.raw, self.w.raw, self.y.raw, self.conv.raw);
        first(
            gpu,
            "cudnnConvolutionForward",
            &algorithms,
            |algorithm, size| {
                // SAFETY: the handle and the descriptors are good; it writes one size.
                unsafe {
                    sys::cudnnGetConvolutionForwardWorkspaceSize(handle, xd, wd, cd, yd, algorithm, size)
                }
            },
            |algorithm, space, bytes| {
                // SAFETY: the handle and the descriptors are good, the buffers have the lengths these say and the
                // workspace the size asked for; all live until work after this on the stream frees them.
                unsafe {
                    sys::cudnnConvolutionForward(
                        handle,
                        scalar(&ONE),
                        xd,
                        x as *const c_void,
                        wd,
                        w as *const c_void,
                        cd,
                        algorithm,
                        space,
                        bytes,
                        scalar(&ZERO),
                        yd,
                        y as *mut c_void,
                    )
                }
            },
        )
    }

    /// The gradient by `x` of a scalar whose gradient by `y` is `dy`; the algorithm used.
    ///
    /// # Errors
    /// As [`Conv::forward`].
    pub fn backward_data(
        &self,
        gpu: &Gpu,
        w: &Buffer<f32>,
        dy: &Buffer<f32>,
        dx: &mut Buffer<f32>,
    ) -> Result<String, GpuError> {
        let (dx, w, dy) = self.pointers(gpu, dx, w, dy)?;
        let algorithms =
            [BwdData::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, BwdData::CUDNN_CONVOLUTION_BWD_DATA_ALGO_0];
        let handle = self.cudnn.handle;
        let (xd, wd, yd, cd) = (self.x.raw, self.w.raw, self.y.raw, self.conv.raw);
        first(
            gpu,
            "cudnnConvolutionBackwardData",
            &algorithms,
            |algorithm, size| {
                // SAFETY: the handle and the descriptors are good; it writes one size.
                unsafe {
                    sys::cudnnGetConvolutionBackwardDataWorkspaceSize(handle, wd, yd, cd, xd, algorithm, size)
                }
            },
            |algorithm, space, bytes| {
                // SAFETY: as in `forward`.
                unsafe {
                    sys::cudnnConvolutionBackwardData(
                        handle,
                        scalar(&ONE),
                        wd,
                        w as *const c_void,
                        yd,
                        dy as *const c_void,
                        cd,
                        algorithm,
                        space,
                        bytes,
                        scalar(&ZERO),
                        xd,
                        dx as *mut c_void,
                    )
                }
            },
        )
    }

    /// The gradient by `w` of a scalar whose gradient by `y` is `dy`; the algorithm used.
    ///
    /// # Errors
    /// As [`Conv::forward`].
    pub fn backward_filter(
        &self,
        gpu: &Gpu,
        x: &Buffer<f32>,
        dy: &Buffer<f32>,
        dw: &mut Buffer<f32>,
    ) -> Result<String, GpuError> {
        let (x, dw, dy) = self.pointers(gpu, x, dw, dy)?;
        // The algorithms 0 and 3 add in an order that varies.
        let algorithms =
            [BwdFilter::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, BwdFilter::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0];
        let handle = self.cudnn.handle;
        let (xd, wd, yd, cd) = (self.x.raw, self.w.raw, self.y.raw, self.conv.raw);
        first(
            gpu,
            "cudnnConvolutionBackwardFilter",
            &algorithms,
            |algorithm, size| {
                // SAFETY: the handle and the descriptors are good; it writes one size.
                unsafe {
                    sys::cudnnGetConvolutionBackwardFilterWorkspaceSize(
                        handle, xd, yd, cd, wd, algorithm, size,
                    )
                }
            },
            |algorithm, space, bytes| {
                // SAFETY: as in `forward`.
                unsafe {
                    sys::cudnnConvolutionBackwardFilter(
                        handle,
                        scalar(&ONE),
                        xd,
                        x as *const c_void,
                        yd,
                        dy as *const c_void,
                        cd,
                        algorithm,
                        space,
                        bytes,
                        scalar(&ZERO),
                        wd,
                        dw as *mut c_void,
                    )
                }
            },
        )
    }

    /// The addresses of an input, filters and an output, checked.
    fn pointers(
        &self,
        gpu: &Gpu,
        x: &Buffer<f32>,
        w: &Buffer<f32>,
        y: &Buffer<f32>,
    ) -> Result<(u64, u64, u64), GpuError> {
        let lengths = (x.len(), w.len(), y.len());
        if lengths != self.shape.lengths() || !Arc::ptr_eq(&self.cudnn.stream, gpu.stream()) {
            let reason = format!("{:?} with buffers of {lengths:?}, or another Gpu's handle", self.shape);
            return Err(GpuError::shape("convolution", reason));
        }
        gpu.not_capturing("a convolution by cuDNN")?;
        gpu.bind()?;
        Ok((gpu.pointer(x)?, gpu.pointer(w)?, gpu.pointer(y)?))
    }
}

/// Runs the first algorithm that cuDNN takes; its name, or the last refusal.
fn first<A: Copy + std::fmt::Debug>(
    gpu: &Gpu,
    doing: &str,
    algorithms: &[A],
    size_of: impl Fn(A, *mut usize) -> cudnnStatus_t,
    run: impl Fn(A, *mut c_void, usize) -> cudnnStatus_t,
) -> Result<String, GpuError> {
    let mut refusal = GpuError::shape("convolution", "no algorithm has a workspace small enough");
    for &algorithm in algorithms {
        let mut bytes = 0;
        if let Err(error) = check(doing, size_of(algorithm, &mut bytes)) {
            refusal = error;
            continue;
        }
        if bytes > MOST_WORKSPACE {
            continue;
        }
        let space = gpu.zeros::<u8>(bytes)?;
        match check(doing, run(algorithm, gpu.pointer(&space)? as *mut c_void, bytes)) {
            Ok(()) => return Ok(format!("{algorithm:?}")),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}
