//! Several programs as one: on a GPU, one captured graph.
//!
//! Invariants: a graph is replayed only for the programs, repetitions and state that it was captured for; all inputs are
//! copied in before the first node runs, and nothing inside waits for the host.

use crate::error::{Error, Result};
use crate::plan::{Arena, Plan};
use crate::run::Host;
use crate::state::{State, Store};
use crate::tape::Var;
use kernels::gpu::{self, Gpu, Graph};
use kernels::memory::Span;
use std::sync::Arc;

/// A program in a sequence.
#[derive(Debug)]
pub struct Part<'a> {
    /// The program.
    pub plan: &'a mut Plan,
    /// Its inputs.
    pub inputs: &'a [(Var, Host<'a>)],
    /// How often it runs, each time with the same inputs and with the state as the time before left it.
    pub times: usize,
}

/// Programs that are run again and again in the same order. On a GPU they become one CUDA graph.
#[derive(Debug, Default)]
pub struct Sequence {
    captured: Captured,
}

impl Sequence {
    /// Runs the parts in order on `state`.
    ///
    /// # Errors
    /// As [`Plan::run`]; if the parts are for different devices.
    pub fn run(&mut self, state: &mut State, parts: &mut [Part<'_>]) -> Result<()> {
        let gpu = parts.first().and_then(|p| p.plan.gpu());
        let place = |g: Option<Arc<Gpu>>| g.map(|g| Arc::as_ptr(&g));
        if parts.iter().any(|p| place(p.plan.gpu()) != place(gpu.clone())) {
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
        let mut plans: Vec<(&mut Plan, usize)> = parts.iter_mut().map(|p| (&mut *p.plan, p.times)).collect();
        self.captured.run(&gpu, state, &mut plans)
    }

    /// Why the sequence could not become one CUDA graph, if it could not.
    pub fn capture_refused(&self) -> Option<&str> {
        self.captured.refused.as_deref()
    }
}

/// What a graph was captured for: the slots' addresses, and the arena and repetitions of each program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Key {
    slots: Vec<u64>,
    programs: Vec<(u64, usize)>,
}

/// A graph, or how far it is from being one.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    /// Of the last plain run.
    warm: Option<Key>,
    graph: Option<(Key, Graph)>,
    /// Why plain launches go on.
    pub(crate) refused: Option<String>,
}

impl Captured {
    /// Plain launches the first time, which loads and measures what kernels need; from then on one captured graph, as long
    /// as programs and state are the same. Where capture is refused, plain launches go on.
    pub(crate) fn run(&mut self, gpu: &Gpu, state: &State, plans: &mut [(&mut Plan, usize)]) -> Result<()> {
        let Store::Gpu(_, slots) = &state.store else { return Err(crate::run::elsewhere()) };
        let slots: Vec<Span<'_>> =
            slots.iter().map(|b| gpu.span(b)).collect::<core::result::Result<_, gpu::GpuError>>()?;
        let mut key = Key { slots: slots.iter().map(Span::address).collect(), programs: Vec::new() };
        for (plan, times) in plans.iter() {
            let Arena::Gpu(_, arena) = &plan.arena else { return Err(crate::run::elsewhere()) };
            key.programs.push((gpu.span(arena)?.address(), *times));
        }
        if let Some((at, graph)) = &self.graph
            && *at == key
            && !gpu.profile().is_on()
        {
            return Ok(graph.replay(gpu)?);
        }
        let watched = gpu.profile().is_on() || plans.iter().any(|(p, _)| p.device.debug.nan);
        if self.warm.as_ref() != Some(&key) || self.refused.is_some() || watched {
            launch(gpu, &slots, true, state, plans)?;
            self.warm = Some(key);
            return Ok(());
        }
        let mut failed = None;
        let graph = gpu.capture(|| {
            launch(gpu, &slots, false, state, plans).map_err(|e| {
                let why = e.to_string();
                failed = Some(e);
                gpu::GpuError::refused("capturing a program", why)
            })
        });
        match graph {
            Ok(graph) => {
                graph.replay(gpu)?;
                self.graph = Some((key, graph));
            }
            Err(e) => {
                self.refused = Some(failed.map_or_else(|| e.to_string(), |f| f.to_string()));
                launch(gpu, &slots, true, state, plans)?;
            }
        }
        Ok(())
    }
}

/// Every node of every program, onto the stream.
fn launch(
    gpu: &Gpu,
    slots: &[Span<'_>],
    check: bool,
    state: &State,
    plans: &mut [(&mut Plan, usize)],
) -> Result<()> {
    for (plan, times) in plans {
        for _ in 0..*times {
            plan.launch(gpu, slots, check, state)?;
        }
    }
    Ok(())
}
