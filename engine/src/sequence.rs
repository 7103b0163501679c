//! Several programs as one: on a GPU, one captured graph.
//!
//! Invariants: all inputs are copied in before the first node runs, and nothing inside waits for the host.

use crate::capture::{CaptureKey, CapturedGraph, Launches};
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
        self.run_beside(state, None, parts)
    }

    /// Runs `side`, and the parts in order on `state`. All but the last part and `side` must not depend on each other: in a CUDA
    /// graph they run at the same time, on two streams, and the last part waits for both; elsewhere `side` runs first.
    ///
    /// # Errors
    /// Those of [`Sequence::run`]; also if `side` assigns a slot that one of these parts uses, or the other way round.
    pub fn run_beside<'a>(
        &mut self,
        state: &mut State,
        side: Option<Part<'a>>,
        parts: &mut [Part<'a>],
    ) -> Result<()> {
        let mut side = side;
        if let (Some(side), [before @ .., _]) = (&side, &*parts) {
            independent(side, before)?;
        }
        let gpu = parts.first().and_then(|p| p.plan.gpu());
        let address = |g: Option<Arc<Gpu>>| g.map(|g| Arc::as_ptr(&g));
        if side.iter().chain(parts.iter()).any(|p| address(p.plan.gpu()) != address(gpu.clone())) {
            return Err(Error::Bind("the programs of a sequence are for different devices".into()));
        }
        let Some(gpu) = gpu else {
            for p in side.iter_mut().chain(parts) {
                p.plan.begin(state, p.inputs)?;
                for _ in 0..p.times {
                    p.plan.run_nodes(state)?;
                }
            }
            return Ok(());
        };
        let _turn = gpu.turn();
        for p in side.iter_mut().chain(parts.iter_mut()) {
            p.plan.begin(state, p.inputs)?;
        }
        let slots = device_slots(&gpu, state)?;
        let programs = side.iter().chain(parts.iter()).map(|p| Ok((p.plan.arena_address(&gpu)?, p.times)));
        let key = CaptureKey {
            slots: slots.iter().map(Span::address).collect(),
            programs: programs.collect::<Result<_>>()?,
        };
        let debugged = parts.iter().any(|p| p.plan.program.device.debug.nan);
        self.graph.run(&gpu, key, debugged, |how| {
            let launch = |p: &mut Part<'_>| -> Result<()> {
                (0..p.times).try_for_each(|_| p.plan.launch(&gpu, &slots, how == Launches::Plain, state))
            };
            match (&mut side, how) {
                (Some(side), Launches::Captured) => {
                    gpu.fork()?;
                    gpu.beside(|| launch(side))?;
                }
                (Some(side), Launches::Plain) => launch(side)?,
                (None, _) => {}
            }
            let Some((last, before)) = parts.split_last_mut() else { return Ok(()) };
            before.iter_mut().try_for_each(launch)?;
            if side.is_some() && how == Launches::Captured {
                gpu.join()?;
            }
            launch(last)
        })
    }

    /// Why the sequence could not become one CUDA graph, if it could not.
    pub fn capture_refused(&self) -> Option<&str> {
        self.graph.refused()
    }
}

/// An error unless `side` may run at the same time as `parts`.
fn independent(side: &Part<'_>, parts: &[Part<'_>]) -> Result<()> {
    let (mine, written) = (&side.plan.program.slots, &side.plan.program.assigned);
    for p in parts {
        let (theirs, assigned) = (&p.plan.program.slots, &p.plan.program.assigned);
        let both = assigned.iter().find(|s| mine.contains(s)).or(written.iter().find(|s| theirs.contains(s)));
        if let Some(slot) = both {
            return Err(Error::Bind(format!(
                "programs that run beside each other both use slot {} of {}, and one assigns it",
                slot.id, slot.spec
            )));
        }
    }
    Ok(())
}
