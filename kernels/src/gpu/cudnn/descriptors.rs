//! Descriptors of cuDNN's original API.
//!
//! What must hold: each is destroyed once; callers make one only after cuDNN has been found.

use std::ffi::c_int;
use std::ptr;

use cudarc::cudnn::sys::{self, cudnnStatus_t};

use super::check;
use crate::dtype::Float;
use crate::gpu::error::GpuError;

/// A descriptor, destroyed when dropped.
pub(super) struct Descriptor<T: Copy> {
    pub(super) raw: T,
    destroy: unsafe fn(T) -> cudnnStatus_t,
}

// SAFETY: a descriptor is plain memory of the library; any thread may use it, one at a time.
unsafe impl<T: Copy> Send for Descriptor<T> {}

impl<T: Copy> Drop for Descriptor<T> {
    fn drop(&mut self) {
        // SAFETY: made by the matching function and destroyed once.
        let _ = unsafe { (self.destroy)(self.raw) };
    }
}

fn int(size: usize) -> Result<c_int, GpuError> {
    c_int::try_from(size).map_err(|_| GpuError::shape("convolution", format!("{size} is too large")))
}

fn data_type(float: Float) -> sys::cudnnDataType_t {
    match float {
        Float::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
        Float::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
    }
}

/// A descriptor of `n` images of `h × w × c`, NHWC.
pub(super) fn tensor(
    float: Float,
    n: usize,
    h: usize,
    w: usize,
    c: usize,
) -> Result<Descriptor<sys::cudnnTensorDescriptor_t>, GpuError> {
    let (n, h, w, c) = (int(n)?, int(h)?, int(w)?, int(c)?);
    let mut raw = ptr::null_mut();
    // SAFETY: it writes one descriptor.
    check("cudnnCreateTensorDescriptor", unsafe { sys::cudnnCreateTensorDescriptor(&mut raw) })?;
    let descriptor = Descriptor { raw, destroy: sys::cudnnDestroyTensorDescriptor };
    let (format, dtype) = (sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC, data_type(float));
    // SAFETY: the descriptor is good.
    check("cudnnSetTensor4dDescriptor", unsafe {
        sys::cudnnSetTensor4dDescriptor(raw, format, dtype, n, c, h, w)
    })?;
    Ok(descriptor)
}

/// A descriptor of `k` filters of `r × s × c`, KRSC.
pub(super) fn filter(
    float: Float,
    k: usize,
    r: usize,
    s: usize,
    c: usize,
) -> Result<Descriptor<sys::cudnnFilterDescriptor_t>, GpuError> {
    let (k, r, s, c) = (int(k)?, int(r)?, int(s)?, int(c)?);
    let mut raw = ptr::null_mut();
    // SAFETY: it writes one descriptor.
    check("cudnnCreateFilterDescriptor", unsafe { sys::cudnnCreateFilterDescriptor(&mut raw) })?;
    let descriptor = Descriptor { raw, destroy: sys::cudnnDestroyFilterDescriptor };
    let (format, dtype) = (sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC, data_type(float));
    // SAFETY: the descriptor is good.
    check("cudnnSetFilter4dDescriptor", unsafe {
        sys::cudnnSetFilter4dDescriptor(raw, dtype, format, k, c, r, s)
    })?;
    Ok(descriptor)
}

/// A descriptor of a convolution with this padding and stride on both axes that accumulates in float32. The math type
/// is set for each algorithm.
pub(super) fn convolution(
    pad: usize,
    stride: usize,
) -> Result<Descriptor<sys::cudnnConvolutionDescriptor_t>, GpuError> {
    let (pad, stride) = (int(pad)?, int(stride)?);
    let mut raw = ptr::null_mut();
    // SAFETY: it writes one descriptor.
    check("cudnnCreateConvolutionDescriptor", unsafe { sys::cudnnCreateConvolutionDescriptor(&mut raw) })?;
    let descriptor = Descriptor { raw, destroy: sys::cudnnDestroyConvolutionDescriptor };
    let (mode, dtype) =
        (sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION, sys::cudnnDataType_t::CUDNN_DATA_FLOAT);
    // SAFETY: the descriptor is good.
    check("cudnnSetConvolution2dDescriptor", unsafe {
        sys::cudnnSetConvolution2dDescriptor(raw, pad, pad, stride, stride, 1, 1, mode, dtype)
    })?;
    Ok(descriptor)
}

impl Descriptor<sys::cudnnConvolutionDescriptor_t> {
    /// Sets the math type: which precision products may have.
    pub(super) fn set_math(&self, math: sys::cudnnMathType_t) -> Result<(), GpuError> {
        // SAFETY: the descriptor is good.
        check("cudnnSetConvolutionMathType", unsafe { sys::cudnnSetConvolutionMathType(self.raw, math) })
    }
}

#[cfg(test)]
mod tests;
