//! cuDNN: its handle, convolutions and batch norm. Its graph API is in [`super::cudnn_graph`].
//!
//! What must hold: a handle is made at first use and never during a capture; one thread uses it at a time.

pub mod batch_norm;
mod candidates;
mod convolution;
mod descriptors;
mod tuning;

use std::ffi::c_char;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cudarc::cudnn::sys::{self, cudnnStatus_t};
use cudarc::driver::CudaStream;

use super::driver::Gpu;
use super::error::GpuError;
use super::libraries::{Id, libraries};
pub use convolution::{ConvPass, Convolution};

/// A handle of cuDNN. Not to be used from several threads at once (it is not `Sync`).
#[derive(Debug)]
pub(in crate::gpu) struct Cudnn {
    handle: sys::cudnnHandle_t,
    stream: Arc<CudaStream>,
}

// SAFETY: cuDNN allows any thread to use a handle, one at a time; it is not `Sync`, so it has one user at a time.
unsafe impl Send for Cudnn {}

impl Cudnn {
    /// A handle for a device.
    ///
    /// # Errors
    /// Why cuDNN cannot be used, or its error.
    fn new(gpu: &Gpu) -> Result<Self, GpuError> {
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

    /// The handle itself, which lives as long as this does.
    pub(in crate::gpu) fn raw(&self) -> sys::cudnnHandle_t {
        self.handle
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // Its work may still be running. The next call will report an error again.
            let _ = self.stream.synchronize();
            // SAFETY: made by cudnnCreate and destroyed once.
            let _ = unsafe { sys::cudnnDestroy(self.handle) };
        }
    }
}

/// The handle of a device, made at first use.
#[derive(Default)]
struct Handle(OnceLock<Result<Mutex<Cudnn>, GpuError>>);

impl Gpu {
    /// The device's cuDNN handle, made at first use, which may not be during a capture.
    pub(in crate::gpu) fn cudnn(&self) -> Result<MutexGuard<'_, Cudnn>, GpuError> {
        let handle = &self.attached::<Handle>().0;
        if handle.get().is_none() {
            self.not_capturing("taking the cuDNN handle")?;
        }
        let made = handle.get_or_init(|| Cudnn::new(self).map(Mutex::new));
        made.as_ref().map(|m| m.lock().unwrap_or_else(PoisonError::into_inner)).map_err(Clone::clone)
    }
}

/// An error for every status but success, with cuDNN's own message.
pub(in crate::gpu) fn check(doing: &str, status: cudnnStatus_t) -> Result<(), GpuError> {
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
