//! cuDNN: its functions, its handle and its batch norm. Convolutions, by its graph API, are in
//! [`super::cudnn_graph`].
//!
//! What must hold: a handle is made at first use and never during a capture; one thread uses it at a time.

pub mod batch_norm;
mod descriptors;
mod functions;

use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cudarc::cudnn::sys::cudnnHandle_t;
use cudarc::driver::CudaStream;

use super::driver::{Deferred, Gpu};
use super::error::GpuError;
pub(in crate::gpu) use descriptors::data_type;
pub(in crate::gpu) use functions::{Functions, check, functions};

/// A handle of cuDNN. Not to be used from several threads at once (it is not `Sync`).
#[derive(Debug)]
pub(in crate::gpu) struct Cudnn {
    handle: cudnnHandle_t,
    stream: Arc<CudaStream>,
    /// The stream that its work goes to now: that of the device, or the second one.
    on: *mut c_void,
    functions: &'static Functions,
}

// SAFETY: cuDNN allows any thread to use a handle, one at a time; it is not `Sync`, so it has one user at a time.
unsafe impl Send for Cudnn {}

impl Cudnn {
    /// A handle for a device.
    ///
    /// # Errors
    /// Why cuDNN cannot be used, or its error.
    fn new(gpu: &Gpu) -> Result<Deferred<Self>, GpuError> {
        let functions = functions()?;
        gpu.not_capturing("making a cuDNN handle")?;
        gpu.bind()?;
        let on = gpu.raw_stream().0;
        let cudnn = Self { handle: ptr::null_mut(), stream: gpu.stream().clone(), on, functions };
        let mut cudnn = Deferred::new(cudnn);
        // SAFETY: a device is bound to this thread; it writes one handle.
        check("cudnnCreate", unsafe { (functions.cudnnCreate)(&mut cudnn.handle) })?;
        // SAFETY: the handle is good, and the stream lives as long as `cudnn`.
        check("cudnnSetStream", unsafe { (functions.cudnnSetStream)(cudnn.handle, on) })?;
        Ok(cudnn)
    }

    /// Lets its work go to the stream that the device submits to now.
    fn follow(&mut self, gpu: &Gpu) -> Result<(), GpuError> {
        let (on, _) = gpu.raw_stream();
        if on != self.on {
            // SAFETY: the handle is good, and the device's streams outlive the handle.
            check("cudnnSetStream", unsafe { (self.functions.cudnnSetStream)(self.handle, on) })?;
            self.on = on;
        }
        Ok(())
    }

    /// The handle itself, which lives as long as this does.
    pub(in crate::gpu) fn raw(&self) -> cudnnHandle_t {
        self.handle
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // Its work may still be running. The next call will report an error again.
            let _ = self.stream.synchronize();
            // SAFETY: made by cudnnCreate and destroyed once.
            let _ = unsafe { (self.functions.cudnnDestroy)(self.handle) };
        }
    }
}

/// The handle of a device, made at first use.
#[derive(Default)]
struct Handle(OnceLock<Result<Mutex<Deferred<Cudnn>>, GpuError>>);

impl Gpu {
    /// The device's cuDNN handle, made at first use, which may not be during a capture.
    pub(in crate::gpu) fn cudnn(&self) -> Result<MutexGuard<'_, Deferred<Cudnn>>, GpuError> {
        let handle = &self.attached::<Handle>().0;
        if handle.get().is_none() {
            self.not_capturing("taking the cuDNN handle")?;
        }
        let made = handle.get_or_init(|| Cudnn::new(self).map(Mutex::new));
        let made = made.as_ref().map_err(Clone::clone)?;
        let mut handle = made.lock().unwrap_or_else(PoisonError::into_inner);
        handle.follow(self)?;
        Ok(handle)
    }
}
