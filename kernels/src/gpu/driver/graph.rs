//! CUDA graphs: launches captured once and replayed together.
//!
//! What must hold: a graph keeps every buffer and kernel that its launches use alive; a capture always ends, also when
//! the captured work fails or panics; memory is neither allocated nor freed during one, by
//! whatever thread (`release`).

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::CudaGraph;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::context::Gpu;
use super::release::Capturing;
use crate::gpu::error::GpuError;

/// What the launches captured so far use.
type Kept = Vec<Arc<dyn Any + Send + Sync>>;

/// `Some` while a capture is in progress.
#[derive(Default)]
pub(super) struct Capture(Mutex<Option<Kept>>);

impl Capture {
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Captured launches. Like CUDA's own graphs, it may be used from one thread at a time only.
pub struct Graph {
    // Declared before `kept`, so dropped first: what the launches use must outlive them.
    graph: CudaGraph,
    kept: Kept,
}

// SAFETY: CUDA allows any thread to use a graph, one at a time; `Graph` is not `Sync`, so it has one user at a time.
unsafe impl Send for Graph {}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Graph of {} uses", self.kept.len())
    }
}

/// Ends the capture when dropped, unless it has ended already.
struct Ending<'a> {
    gpu: &'a Gpu,
    ended: bool,
}

impl Ending<'_> {
    fn end(&mut self) -> Result<Graph, GpuError> {
        self.ended = true;
        let ended = self.gpu.stream().end_capture(CUgraphInstantiate_flags(0));
        // Taken even after an error, so that the next capture can begin.
        let kept = self.gpu.capture_state().lock().take().unwrap_or_default();
        match ended {
            Ok(Some(graph)) => Ok(Graph { graph, kept }),
            Ok(None) => Err(GpuError::shape("capture", "nothing was captured")),
            Err(error) => Err(GpuError::driver("ending a capture", error)),
        }
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.end();
        }
    }
}

impl Gpu {
    /// Captures the launches that `work` submits; none of them runs until [`Graph::replay`].
    ///
    /// # Errors
    /// The error of `work`, or a driver error; [`GpuError::Capturing`] when a capture is already in progress.
    pub fn capture(&self, work: impl FnOnce() -> Result<(), GpuError>) -> Result<Graph, GpuError> {
        let _capturing = Capturing::begin();
        let mut state = self.capture_state().lock();
        if state.is_some() {
            return Err(GpuError::Capturing { op: "capturing" });
        }
        let begun = self.stream().begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
        begun.map_err(|e| GpuError::driver("beginning a capture", e))?;
        *state = Some(Vec::new());
        drop(state);

        let mut ending = Ending { gpu: self, ended: false };
        work()?;
        ending.end()
    }
}

impl Graph {
    /// Submits the captured launches, in order, to the stream they were captured from.
    ///
    /// # Errors
    /// A driver error; [`GpuError::Capturing`].
    pub fn replay(&self, gpu: &Gpu) -> Result<(), GpuError> {
        gpu.not_capturing("replaying a graph")?;
        self.graph.launch().map_err(|e| GpuError::driver("replaying a graph", e))
    }
}
