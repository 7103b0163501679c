//! A compiled program: its nodes in order, and where each of their values lies. Nothing here changes when it runs.

use crate::device::Device;
use crate::error::Site;
use crate::op::{Cost, GpuWork};
use crate::spec::Spec;
use crate::state::Slot;
use crate::tape::Var;
use kernels::memory::{Access, Space, View};

/// One node.
pub(crate) struct Step {
    /// The op.
    pub name: &'static str,
    pub site: Site,
    pub inputs: Vec<(Var, View)>,
    pub outputs: Vec<(Var, Spec, View)>,
    pub workspace: View,
    /// What its kernel may read and write.
    pub access: Access,
    pub cost: Cost,
    pub gpu_work: GpuWork,
}

/// An input that the host gives at each run.
pub(crate) struct Input {
    pub var: Var,
    pub name: String,
    pub spec: Spec,
    pub view: View,
}

/// A value that can be read after a run.
pub(crate) struct Output {
    pub var: Var,
    pub spec: Spec,
    pub view: View,
}

/// What the planner decided.
pub(crate) struct Program {
    pub device: Device,
    /// The tape's tag: inputs and outputs are variables of this tape.
    pub tag: usize,
    pub steps: Vec<Step>,
    pub inputs: Vec<Input>,
    pub outputs: Vec<Output>,
    /// Values to copy to slots at the end, where they could not be written in place.
    pub copies: Vec<(View, View)>,
    /// The slots that it reads or assigns.
    pub slots: Vec<Slot>,
    /// Those of them that it assigns.
    pub assigned: Vec<Slot>,
    pub writes_state: bool,
    /// Bytes of values alive at each step, workspace included: a lower bound of the arena's size.
    pub live: Vec<usize>,
}

impl Program {
    /// End of the last byte of the arena that an input, a node, its workspace or an output touches, rounded up to a
    /// multiple of the device's alignment.
    pub(crate) fn used_bytes(&self) -> usize {
        let of_steps = self.steps.iter().flat_map(|s| {
            let (inputs, outputs) = (s.inputs.iter().map(|i| &i.1), s.outputs.iter().map(|o| &o.2));
            inputs.chain(outputs).chain([&s.workspace])
        });
        let inputs = self.inputs.iter().map(|i| &i.view);
        let all = of_steps.chain(inputs).chain(self.outputs.iter().map(|o| &o.view));
        let in_arena = all.filter(|v| v.space == Space::Arena && v.len > 0);
        let align = self.device.alignment();
        in_arena.map(|v| v.offset + v.len.next_multiple_of(align)).max().unwrap_or(0)
    }

    pub(crate) fn cost(&self) -> Cost {
        let add = |a: Cost, s: &Step| Cost { flops: a.flops + s.cost.flops, bytes: a.bytes + s.cost.bytes };
        self.steps.iter().fold(Cost::default(), add)
    }
}
