//! A second stream, on which part of a capture runs beside the rest.
//!
//! What must hold: the second stream has work only between a fork and the join after it, both in one capture; whoever
//! submits to it holds the device's turn.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cudarc::driver::sys::{CUevent_flags, CUevent_wait_flags};
use cudarc::driver::{CudaContext, CudaStream, DriverError, result};

use super::context::Gpu;
use super::timer::Event;
use crate::gpu::error::GpuError;

/// The second stream, and the events by which it follows the first and the first follows it.
pub(super) struct Branch {
    stream: Arc<CudaStream>,
    forked: Event,
    joined: Event,
    /// Whether work is submitted to it now.
    on: AtomicBool,
}

impl Branch {
    pub(super) fn new(context: &Arc<CudaContext>) -> Result<Self, DriverError> {
        let event = || result::event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING).map(Event);
        let stream = context.new_stream()?;
        Ok(Self { stream, forked: event()?, joined: event()?, on: AtomicBool::new(false) })
    }
}

/// Makes `to` wait for all that `from` has at this point.
fn follow(event: &Event, from: &CudaStream, to: &CudaStream) -> Result<(), GpuError> {
    let fail = |e| GpuError::driver("ordering two streams", e);
    // SAFETY: event and stream are alive and of one context.
    unsafe { result::event::record(event.0, from.cu_stream()) }.map_err(fail)?;
    // SAFETY: as before.
    unsafe { result::stream::wait_event(to.cu_stream(), event.0, CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT) }
        .map_err(fail)
}

impl Gpu {
    /// The stream that work is submitted to now.
    pub(super) fn current(&self) -> &Arc<CudaStream> {
        if self.branch().on.load(Ordering::Relaxed) { &self.branch().stream } else { self.stream() }
    }

    /// The same as other CUDA libraries take it; and whether it is the second one.
    pub(crate) fn raw_stream(&self) -> (*mut c_void, bool) {
        (self.current().cu_stream().cast(), self.branch().on.load(Ordering::Relaxed))
    }

    /// During a capture, lets work that [`Gpu::beside`] submits run beside what is submitted after this, from here on until
    /// [`Gpu::join`].
    ///
    /// # Errors
    /// [`GpuError::Shape`] outside a capture; a driver error.
    pub fn fork(&self) -> Result<(), GpuError> {
        if self.capture_state().lock().is_none() {
            return Err(GpuError::shape("a branch", "work runs beside other work in captured graphs only"));
        }
        follow(&self.branch().forked, self.stream(), &self.branch().stream)
    }

    /// What is submitted from here on waits for the work submitted by [`Gpu::beside`].
    ///
    /// # Errors
    /// A driver error.
    pub fn join(&self) -> Result<(), GpuError> {
        follow(&self.branch().joined, &self.branch().stream, self.stream())
    }

    /// Does `work`, which submits to the second stream, between [`Gpu::fork`] and [`Gpu::join`]. The caller holds the device's
    /// turn.
    pub fn beside<R>(&self, work: impl FnOnce() -> R) -> R {
        /// Switches back also if the work panics.
        struct Back<'a>(&'a AtomicBool);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Relaxed);
            }
        }
        let _back = Back(&self.branch().on);
        self.branch().on.store(true, Ordering::Relaxed);
        work()
    }
}
