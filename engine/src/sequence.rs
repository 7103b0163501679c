//! Several programs as one: on a GPU, one captured graph.
//!
//! Invariants: all inputs are copied in before the first node runs, and nothing inside waits for the host.

use crate::capture::{CaptureKey, CapturedGraph};
use crate::error::{Error, Result};
use crate::execute::{HostTensor, device_slots};
use crate::plan::Plan;
use crate::state::State;
use crate::tape::Var;
use kernels::gpu::Gpu;
use kernels::memory::Span;
use std::sync::Arc;

/// A program in a sequence.
#[derive(Debug)]
pub struct Part<'a> {
    /// The program.
    pub plan: &'a mut Plan,
    /// Its inputs.
    pub inputs: &'a [(Var, HostTensor<'a>)],
    /// How often it runs, each time with the same inputs and on the state as the run before left it.
    pub times: usize,
}

/// Programs that are run again and again in the same order. On a GPU they become one CUDA graph.
#[derive(Debug, Default)]
pub struct Sequence {
    graph: CapturedGraph,
}

impl Sequence {
    /// Runs the parts in order on `state`.
    ///
    /// # Errors
    /// Those of [`Plan::run`]; also if the parts are for different devices.
    pub fn run(&mut self, state: &mut State, parts: &mut [Part<'_>]) -> Result<()> {
        let gpu = parts.first().and_then(|p| p.plan.gpu());
        let address = |g: Option<Arc<Gpu>>| g.map(|g| Arc::as_ptr(&g));
        if parts.iter().any(|p| address(p.plan.gpu()) != address(gpu.clone())) {
            return Err(Error::Bind("the programs of a sequence are for different devices".into()));
        }
        let Some(gpu) = gpu else {
            for p in parts {
                p.plan.begin(state, p.inputs)?;
                for _ in 0..p.times {
                    p.plan.run_nodes(state)?;
                }
            }
            return Ok(());
        };
        let _turn = gpu.turn();
        for p in parts.iter_mut() {
            p.plan.begin(state, p.inputs)?;
        }
        let slots = device_slots(&gpu, state)?;
        let programs = parts.iter().map(|p| Ok((p.plan.arena_address(&gpu)?, p.times)));
        let key = CaptureKey {
            slots: slots.iter().map(Span::address).collect(),
            programs: programs.collect::<Result<_>>()?,
        };
        let debugged = parts.iter().any(|p| p.plan.program.device.debug.nan);
        self.graph.run(&gpu, key, debugged, |check| {
            for p in parts.iter_mut() {
                for _ in 0..p.times {
                    p.plan.launch(&gpu, &slots, check, state)?;
                }
            }
            Ok(())
        })
    }

    /// Why the sequence could not become one CUDA graph, if it could not.
    pub fn capture_refused(&self) -> Option<&str> {
        self.graph.refused()
    }
}
