//! Descriptors of cuDNN.
//!
//! What must hold: each is destroyed once; whoever makes one has seen to it that cuDNN is found.

use std::ffi::{c_char, c_int};
use std::ptr;

use cudarc::cudnn::sys::{self, cudnnStatus_t};

use super::error::GpuError;
use super::launch::Float;

/// An error for every status but success, with the library's own words.
pub(crate) fn check(doing: &str, status: cudnnStatus_t) -> Result<(), GpuError> {
    let code = status as u32;
    if code == 0 {
        return Ok(());
    }
    let mut text = [0u8; 512];
    // SAFETY: the symbol is there; it writes at most as many bytes as it is told.
    unsafe { sys::cudnnGetLastErrorString(text.as_mut_ptr().cast::<c_char>(), text.len() - 1) };
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    let detail = String::from_utf8_lossy(text).trim().to_owned();
    Err(GpuError::Library { library: "cuDNN", doing: doing.to_owned(), code, detail })
}

/// A descriptor, destroyed when dropped.
pub(crate) struct Desc<T: Copy> {
    pub(crate) raw: T,
    destroy: unsafe fn(T) -> cudnnStatus_t,
}

// SAFETY: a descriptor is plain memory of the library; any thread may use it, one at a time.
unsafe impl<T: Copy> Send for Desc<T> {}

impl<T: Copy> Drop for Desc<T> {
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

/// Images of `h × w × c`, NHWC.
pub(crate) fn tensor(
    float: Float,
    n: usize,
    h: usize,
    w: usize,
    c: usize,
) -> Result<Desc<sys::cudnnTensorDescriptor_t>, GpuError> {
    let (n, h, w, c) = (int(n)?, int(h)?, int(w)?, int(c)?);
    let mut raw = ptr::null_mut();
    // SAFETY: it writes one descriptor.
    check("cudnnCreateTensorDescriptor", unsafe { sys::cudnnCreateTensorDescriptor(&mut raw) })?;
    let desc = Desc { raw, destroy: sys::cudnnDestroyTensorDescriptor };
    let (format, dtype) = (sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC, data_type(float));
    // SAFETY: the descriptor is good.
    check("cudnnSetTensor4dDescriptor", unsafe {
        sys::cudnnSetTensor4dDescriptor(raw, format, dtype, n, c, h, w)
    })?;
    Ok(desc)
}

/// `k` filters of `r × s × c`, KRSC.
pub(crate) fn filter(
    float: Float,
    k: usize,
    r: usize,
    s: usize,
    c: usize,
) -> Result<Desc<sys::cudnnFilterDescriptor_t>, GpuError> {
    let (k, r, s, c) = (int(k)?, int(r)?, int(s)?, int(c)?);
    let mut raw = ptr::null_mut();
    // SAFETY: it writes one descriptor.
    check("cudnnCreateFilterDescriptor", unsafe { sys::cudnnCreateFilterDescriptor(&mut raw) })?;
    let desc = Desc { raw, destroy: sys::cudnnDestroyFilterDescriptor };
    let (format, dtype) = (sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC, data_type(float));
    // SAFETY: the descriptor is good.
    check("cudnnSetFilter4dDescriptor", unsafe {
        sys::cudnnSetFilter4dDescriptor(raw, dtype, format, k, c, r, s)
    })?;
    Ok(desc)
}

/// A convolution with this padding and stride on both axes, added up in float32; how products are formed is set for each
/// algorithm.
pub(crate) fn convolution(
    pad: usize,
    stride: usize,
) -> Result<Desc<sys::cudnnConvolutionDescriptor_t>, GpuError> {
    let (pad, stride) = (int(pad)?, int(stride)?);
    let mut raw = ptr::null_mut();
    // SAFETY: it writes one descriptor.
    check("cudnnCreateConvolutionDescriptor", unsafe { sys::cudnnCreateConvolutionDescriptor(&mut raw) })?;
    let desc = Desc { raw, destroy: sys::cudnnDestroyConvolutionDescriptor };
    let (mode, dtype) =
        (sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION, sys::cudnnDataType_t::CUDNN_DATA_FLOAT);
    // SAFETY: the descriptor is good.
    check("cudnnSetConvolution2dDescriptor", unsafe {
        sys::cudnnSetConvolution2dDescriptor(raw, pad, pad, stride, stride, 1, 1, mode, dtype)
    })?;
    Ok(desc)
}

impl Desc<sys::cudnnConvolutionDescriptor_t> {
    /// Sets how products may be formed.
    pub(crate) fn set_math(&self, math: sys::cudnnMathType_t) -> Result<(), GpuError> {
        // SAFETY: the descriptor is good.
        check("cudnnSetConvolutionMathType", unsafe { sys::cudnnSetConvolutionMathType(self.raw, math) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::libs::{Id, libraries};
    use super::*;

    /// Descriptors need no device.
    #[test]
    fn descriptors_are_made_and_refused() {
        if let Err(why) = libraries().require(Id::Cudnn) {
            println!("skipped: {why}");
            return;
        }
        for float in [Float::F32, Float::Bf16] {
            assert!(tensor(float, 2, 9, 11, 8).is_ok() && filter(float, 16, 3, 5, 8).is_ok());
        }
        assert!(convolution(1, 2).is_ok() && convolution(0, 1).is_ok());
        let refused = tensor(Float::F32, 2, 0, 11, 8).err();
        assert!(
            matches!(refused, Some(GpuError::Library { library: "cuDNN", code, .. }) if code != 0),
            "{refused:?}"
        );
        println!("{}", refused.map(|error| error.to_string()).unwrap_or_default());
    }
}
