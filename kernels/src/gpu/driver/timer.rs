//! Timing work on the device itself, with events on the stream.

use cudarc::driver::{result, sys};

use super::context::Gpu;
use crate::gpu::error::GpuError;

/// An event, destroyed when dropped.
pub(super) struct Event(pub(super) sys::CUevent);

// SAFETY: an event belongs to this value alone, and CUDA allows any thread to use it.
unsafe impl Send for Event {}
// SAFETY: CUDA allows several threads at once.
unsafe impl Sync for Event {}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `cuEventCreate` and destroyed once; the driver accepts an event in any state.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

fn fail(error: result::DriverError) -> GpuError {
    GpuError::driver("timing work on the device", error)
}

impl Gpu {
    fn mark(&self) -> Result<Event, GpuError> {
        let event = Event(result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).map_err(fail)?);
        // SAFETY: the event was just made, and the stream is alive.
        unsafe { result::event::record(event.0, self.stream().cu_stream()) }.map_err(fail)?;
        Ok(event)
    }

    /// Seconds that the work submitted by `submit` takes on the device; waits for it.
    ///
    /// # Errors
    /// Those of `submit`; a driver error; [`GpuError::Capturing`].
    pub fn seconds<E: From<GpuError>>(&self, submit: impl FnOnce() -> Result<(), E>) -> Result<f64, E> {
        self.not_capturing("timing")?;
        self.bind()?;
        let start = self.mark()?;
        submit()?;
        let end = self.mark()?;
        // SAFETY: both events were recorded on this stream and are alive.
        let waited = unsafe { result::event::synchronize(end.0) };
        // SAFETY: as before.
        let ms = waited.and_then(|()| unsafe { result::event::elapsed(start.0, end.0) });
        Ok(f64::from(ms.map_err(fail)?) * 1e-3)
    }
}
