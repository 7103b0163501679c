//! Launches recorded once and replayed as one.
//!
//! What must hold: a graph keeps every buffer and kernel that its launches use; a capture always ends, also when
//! what is captured fails or panics; memory is neither made nor freed inside one.

use cudarc::driver::CudaGraph;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::context::Gpu;
use super::error::GpuError;

/// Captured launches. Not to be used from several threads, as CUDA has it.
pub struct Graph {
    // Before `kept`: what launches use must outlive them.
    graph: CudaGraph,
    kept: Vec<std::sync::Arc<dyn std::any::Any + Send + Sync>>,
}

// SAFETY: CUDA lets any thread use a graph, one at a time; `Graph` is not `Sync`, so it has one user at a time.
unsafe impl Send for Graph {}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Graph of {} uses", self.kept.len())
    }
}

/// Ends a capture that nothing else has ended.
struct Ending<'a> {
    gpu: &'a Gpu,
    ended: bool,
}

impl Ending<'_> {
    fn end(&mut self) -> Result<Graph, GpuError> {
        self.ended = true;
        let ended = self.gpu.stream().end_capture(CUgraphInstantiate_flags(0));
        // Taken in any case, so that the next capture can begin.
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
    /// Captures the launches that `work` asks for; none of them runs until [`Graph::replay`].
    ///
    /// # Errors
    /// The error of `work`, or what the driver answers; [`GpuError::Capturing`] when a capture is going on.
    pub fn capture(&self, work: impl FnOnce() -> Result<(), GpuError>) -> Result<Graph, GpuError> {
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
    /// Runs the captured launches, in order, on the stream they were captured from.
    ///
    /// # Errors
    /// What the driver answers; [`GpuError::Capturing`].
    pub fn replay(&self, gpu: &Gpu) -> Result<(), GpuError> {
        gpu.not_capturing("replaying a graph")?;
        self.graph.launch().map_err(|e| GpuError::driver("replaying a graph", e))
    }
}
