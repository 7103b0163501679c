//! Programs as CUDA graphs.
//!
//! Invariant: a graph is replayed only for the programs, repetitions and state that it was captured for.

use crate::error::Result;
use kernels::gpu::{Gpu, GpuError, Graph};

/// What a graph was captured for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CaptureKey {
    /// Addresses of the slots.
    pub slots: Vec<u64>,
    /// Address of the arena and number of repetitions of each program.
    pub programs: Vec<(u64, usize)>,
}

/// How kernels are put onto the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Launches {
    /// To run at once; values may be checked on the way.
    Plain,
    /// Into a graph.
    Captured,
}

/// A captured graph, or how far it is from being captured.
#[derive(Debug, Default)]
pub(crate) struct CapturedGraph {
    /// Key of the last run by plain launches.
    warm: Option<CaptureKey>,
    graph: Option<(CaptureKey, Graph)>,
    refused: Option<String>,
}

impl CapturedGraph {
    /// Why programs are still launched kernel by kernel, if capturing failed.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Runs the programs of `key`. The first run launches kernel by kernel, which loads and autotunes what they need;
    /// the second is captured; from then on the graph is replayed as long as the key is the same. Where capture is
    /// refused, or `debugged` programs must be launched node by node, plain launches go on.
    ///
    /// `launch` puts all kernels onto the stream.
    pub(crate) fn run(
        &mut self,
        gpu: &Gpu,
        key: CaptureKey,
        debugged: bool,
        mut launch: impl FnMut(Launches) -> Result<()>,
    ) -> Result<()> {
        let profiled = gpu.profile().is_on();
        if let Some((captured, graph)) = &self.graph
            && *captured == key
            && !profiled
        {
            return Ok(graph.replay(gpu)?);
        }
        if self.warm.as_ref() != Some(&key) || self.refused.is_some() || profiled || debugged {
            launch(Launches::Plain)?;
            self.warm = Some(key);
            return Ok(());
        }
        let mut failed = None;
        let graph = gpu.capture(|| {
            launch(Launches::Captured).map_err(|e| {
                let why = e.to_string();
                failed = Some(e);
                GpuError::refused("capturing a program", why)
            })
        });
        match graph {
            Ok(graph) => {
                graph.replay(gpu)?;
                self.graph = Some((key, graph));
            }
            Err(e) => {
                self.refused = Some(failed.map_or_else(|| e.to_string(), |f| f.to_string()));
                launch(Launches::Plain)?;
            }
        }
        Ok(())
    }
}
