//! Descriptors of cuDNN's original API.
//!
//! What must hold: each is destroyed once.

use std::ffi::c_int;
use std::ptr;

use cudarc::cudnn::sys::{self, cudnnTensorDescriptor_t};

use super::functions::{Functions, check, functions};
use crate::dtype::Float;
use crate::gpu::error::GpuError;

/// A descriptor of NHWC images, destroyed when dropped.
pub(super) struct Tensor {
    pub(super) raw: cudnnTensorDescriptor_t,
    cudnn: &'static Functions,
}

// SAFETY: a descriptor is plain memory of the library; any thread may use it, one at a time.
unsafe impl Send for Tensor {}

impl Drop for Tensor {
    fn drop(&mut self) {
        // SAFETY: made by the matching function and destroyed once.
        let _ = unsafe { (self.cudnn.cudnnDestroyTensorDescriptor)(self.raw) };
    }
}

fn int(size: usize) -> Result<c_int, GpuError> {
    c_int::try_from(size).map_err(|_| GpuError::shape("batch norm", format!("{size} is too large")))
}

/// cuDNN's name of an element type.
pub(in crate::gpu) fn data_type(float: Float) -> sys::cudnnDataType_t {
    match float {
        Float::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
        Float::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
    }
}

/// A descriptor of `n` images of `h × w × c`, NHWC.
pub(super) fn tensor(float: Float, [n, h, w, c]: [usize; 4]) -> Result<Tensor, GpuError> {
    let (n, h, w, c) = (int(n)?, int(h)?, int(w)?, int(c)?);
    let cudnn = functions()?;
    let mut raw = ptr::null_mut();
    // SAFETY: it writes one descriptor.
    check("cudnnCreateTensorDescriptor", unsafe { (cudnn.cudnnCreateTensorDescriptor)(&mut raw) })?;
    let tensor = Tensor { raw, cudnn };
    let (format, dtype) = (sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC, data_type(float));
    // SAFETY: the descriptor is good.
    check("cudnnSetTensor4dDescriptor", unsafe {
        (cudnn.cudnnSetTensor4dDescriptor)(raw, format, dtype, n, c, h, w)
    })?;
    Ok(tensor)
}

#[cfg(test)]
mod tests;
