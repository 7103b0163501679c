//! A compiled program together with the memory and kernels that run it.

use crate::arena::Arena;
use crate::capture::CapturedGraph;
use crate::op::{Cost, GpuWork, Kernel};
use crate::program::Program;
use crate::readback::Readback;
use core::fmt;
use kernels::gpu::{Gpu, Staging};
use std::sync::Arc;

/// A program for one device, made by [`Tape::plan`](crate::Tape::plan). It owns its memory; the state is given at each
/// run.
///
/// ```
/// use engine::ops::elementwise::Axpby;
/// use engine::{Device, Spec, State, Tape};
///
/// let mut state = State::new();
/// let weight = state.add("weight", Spec::f32(&[3]))?;
/// state.set(weight, &[1.0f32, 2.0, 3.0])?;
///
/// // weight ← weight − 0.5·gradient
/// let mut tape = Tape::new();
/// let gradient = tape.input("gradient", Spec::f32(&[3]));
/// let old = tape.read(weight);
/// let new = tape.one(Axpby { a: 1.0, b: -0.5 }, &[old, gradient])?;
/// tape.assign(weight, new)?;
///
/// let mut plan = tape.plan(&Device::cpu(1), &[])?;
/// assert_eq!(plan.count("axpby"), 1);
/// for _ in 0..2 {
///     plan.run(&mut state, &[(gradient, [2.0f32, 2.0, 2.0].as_slice().into())])?;
/// }
/// assert_eq!(state.get::<f32>(weight)?, [-1.0, 0.0, 1.0]);
/// # Ok::<(), engine::Error>(())
/// ```
pub struct Plan {
    /// What was compiled.
    pub(crate) program: Program,
    /// The kernel of each step.
    pub(crate) kernels: Vec<Box<dyn Kernel>>,
    pub(crate) arena: Arena,
    /// On a GPU: the program as a CUDA graph.
    pub(crate) graph: CapturedGraph,
    /// On a GPU: where the inputs are gathered before one copy sends them all.
    pub(crate) staging: Option<Staging>,
    /// Outputs on their way back to the host.
    pub(crate) readback: Readback,
}

impl Plan {
    /// Bytes of memory the program owns.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// The most bytes alive at one step: a lower bound of any plan for this order of nodes.
    pub fn live_bytes(&self) -> usize {
        self.program.live.iter().copied().max().unwrap_or(0)
    }

    /// End of the last byte of memory that an input, a node, its workspace or an output touches, rounded up to the
    /// alignment of tensors: what [`Plan::bytes`] must be.
    pub fn used_bytes(&self) -> usize {
        self.program.used_bytes()
    }

    /// FLOPs and bytes of one run.
    pub fn cost(&self) -> Cost {
        self.program.cost()
    }

    /// The nodes in order: op, FLOPs and bytes, and what one run asks of a GPU, whatever the plan's device is.
    pub fn nodes(&self) -> impl Iterator<Item = (&'static str, Cost, GpuWork)> {
        self.program.steps.iter().map(|s| (s.name, s.cost, s.gpu_work))
    }

    /// Number of nodes that run.
    pub fn len(&self) -> usize {
        self.program.steps.len()
    }

    /// Whether nothing runs.
    pub fn is_empty(&self) -> bool {
        self.program.steps.is_empty()
    }

    /// Number of nodes of the op called `name` that run.
    pub fn count(&self, name: &str) -> usize {
        self.program.steps.iter().filter(|s| s.name == name).count()
    }

    /// Why the program could not become one CUDA graph, if it could not.
    pub fn capture_refused(&self) -> Option<&str> {
        self.graph.refused()
    }

    /// The GPU that the program is for, if it is for one.
    pub(crate) fn gpu(&self) -> Option<Arc<Gpu>> {
        match &self.arena {
            Arena::Host(_) => None,
            Arena::Gpu(gpu, _) => Some(Arc::clone(gpu)),
        }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plan({} nodes, {} bytes, {:?})", self.len(), self.bytes(), self.program.device)
    }
}
