//! Page-locked (pinned) host memory for asynchronous copies to and from the device.
//!
//! What must hold: the host touches the memory only when no copy to or from it is in progress; the event recorded after
//! the last copy tells.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys::{CUevent, CUevent_flags};
use cudarc::driver::{CudaStream, DriverError, result};

use super::context::Gpu;
use super::memory::Buffer;
use super::release::Deferred;
use crate::gpu::error::GpuError;

/// A block of page-locked memory, with an event recorded after the last copy.
pub struct Staging(Deferred<Pinned>);

/// The block and the event.
struct Pinned {
    memory: *mut c_void,
    len: usize,
    event: CUevent,
    /// Whether a copy may be in progress.
    pending: bool,
    stream: Arc<CudaStream>,
}

// SAFETY: the memory and the event belong to this value alone, and CUDA allows any thread to use them.
unsafe impl Send for Pinned {}
// SAFETY: a shared reference gives nothing but the length.
unsafe impl Sync for Pinned {}

impl std::fmt::Debug for Staging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Staging({} bytes)", self.len())
    }
}

impl Gpu {
    /// Allocates `len` bytes of page-locked memory, zeroed.
    ///
    /// # Errors
    /// Out of memory, or another driver error; [`GpuError::Capturing`].
    pub fn staging(&self, len: usize) -> Result<Staging, GpuError> {
        self.not_capturing("allocating")?;
        self.bind()?;
        let fail = |e| GpuError::driver(format!("allocating {len} page-locked bytes"), e);
        let event = result::event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING).map_err(fail)?;
        // SAFETY: any size and no flags are valid; the result is checked.
        let memory = match unsafe { result::malloc_host(len.max(1), 0) } {
            Ok(memory) => memory,
            Err(e) => {
                // SAFETY: the event was made above and is used nowhere.
                let _ = unsafe { result::event::destroy(event) };
                return Err(fail(e));
            }
        };
        // SAFETY: the driver allocated at least `len` bytes.
        unsafe { std::ptr::write_bytes(memory.cast::<u8>(), 0, len) };
        let stream = self.stream().clone();
        Ok(Staging(Deferred::new(Pinned { memory, len, event, pending: false, stream })))
    }
}

impl Staging {
    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether its length is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Lets `fill` write the bytes and starts copying all of them to the start of `buffer`, without waiting for the
    /// copy. Waits only for the previous copy.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when they do not fit; a driver error; [`GpuError::Capturing`].
    pub fn send(
        &mut self,
        gpu: &Gpu,
        buffer: &mut Buffer<u8>,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), GpuError> {
        gpu.not_capturing("copying to the device")?;
        if self.0.len > buffer.len() {
            return Err(GpuError::shape("copy", format!("{} bytes to {}", self.0.len, buffer.len())));
        }
        let address = gpu.pointer(buffer)?;
        gpu.bind()?;
        fill(self.bytes()?);
        if self.0.len == 0 {
            return Ok(());
        }
        // SAFETY: the memory holds `len` bytes, written or zeroed.
        let bytes = unsafe { std::slice::from_raw_parts(self.0.memory.cast::<u8>(), self.0.len) };
        // SAFETY: the buffer has room, as checked; the memory is neither written nor freed before the event
        // recorded after the copy (`bytes`, `drop`).
        let sent = unsafe { result::memcpy_htod_async(address, bytes, self.0.stream.cu_stream()) };
        sent.and_then(|()| self.mark()).map_err(|e| GpuError::driver("copying to the device", e))
    }

    /// Starts copying `self.len()` bytes of `buffer`, from `offset` on, into this memory, after all work submitted so
    /// far; [`Staging::bytes`] waits for the copy.
    ///
    /// # Errors
    /// As [`Staging::send`].
    pub fn receive(&mut self, gpu: &Gpu, buffer: &Buffer<u8>, offset: usize) -> Result<(), GpuError> {
        gpu.not_capturing("copying from the device")?;
        let address = gpu.range(buffer, offset, self.0.len)?;
        gpu.bind()?;
        self.bytes()?;
        if self.0.len == 0 {
            return Ok(());
        }
        // SAFETY: the memory holds `len` bytes and nobody else has a reference to it.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.0.memory.cast::<u8>(), self.0.len) };
        // SAFETY: the range lies in the buffer; the memory is neither read nor freed before the event recorded after
        // the copy.
        let started = unsafe { result::memcpy_dtoh_async(bytes, address, self.0.stream.cu_stream()) };
        started.and_then(|()| self.mark()).map_err(|e| GpuError::driver("copying from the device", e))
    }

    /// The bytes, once the last copy is done.
    ///
    /// # Errors
    /// A driver error, including errors of that work.
    pub fn bytes(&mut self) -> Result<&mut [u8], GpuError> {
        if self.0.pending {
            // SAFETY: the event is alive.
            let waited = unsafe { result::event::synchronize(self.0.event) };
            waited.map_err(|e| GpuError::driver("waiting for a copy", e))?;
            self.0.pending = false;
        }
        // SAFETY: the memory holds `len` bytes, no copy is in progress, and the reference borrows this value.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.0.memory.cast::<u8>(), self.0.len) })
    }

    /// Records the event after the copy just submitted.
    fn mark(&mut self) -> Result<(), DriverError> {
        self.0.pending = true;
        // SAFETY: event and stream are alive and of one context.
        unsafe { result::event::record(self.0.event, self.0.stream.cu_stream()) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The next call will report an error again. If the wait fails, the memory is leaked rather than freed.
        // SAFETY: the event is alive.
        let waited = |event| unsafe { result::event::synchronize(event) }.is_ok();
        let done = self.stream.context().bind_to_thread().is_ok() && (!self.pending || waited(self.event));
        // SAFETY: the event was made with this value.
        let _ = unsafe { result::event::destroy(self.event) };
        if done {
            // SAFETY: the memory was made with this value, and no copy is in progress.
            let _ = unsafe { result::free_host(self.memory) };
        }
    }
}
