//! From a tape to a program whose every byte is decided: liveness, storage, aliases, offsets.
//!
//! Invariants: a value's memory is not reused before its last reader ran; a slot is overwritten in place only after
//! the last read of its old value; what the planner decides is checked again by `kernels::memory::Access`. Inputs lie
//! together at the start of the arena, so that one copy brings them, and are kept, so that a program can run again on them.

use crate::asked::Asked;
use crate::device::Device;
use crate::error::{Error, Result, Site};
use crate::op::{Cost, Kernel, Prepared};
use crate::sequence::Captured;
use crate::shortage::explain;
use crate::spec::Spec;
use crate::state::Slot;
use crate::tape::{Source, Tape, Var};
use core::panic::Location;
use kernels::gpu::{self, Gpu, Staging};
use kernels::memory::{ALIGN, Access, Buffer, Space, View};
use std::sync::Arc;

/// One node, ready to run.
pub(crate) struct Step {
    pub name: &'static str,
    pub site: Site,
    pub inputs: Vec<Var>,
    pub outputs: Vec<(Var, Spec)>,
    pub access: Access,
    pub views: (Vec<View>, Vec<View>, View),
    pub cost: Cost,
    pub kernel: Box<dyn Kernel>,
}

/// A program for one device. It owns its memory; state is given at each run.
pub struct Plan {
    pub(crate) device: Device,
    pub(crate) tag: usize,
    pub(crate) steps: Vec<Step>,
    pub(crate) arena: Arena,
    /// Host inputs that the program reads.
    pub(crate) binds: Vec<(Var, String, Spec, View)>,
    pub(crate) outputs: Vec<(Var, Spec, View)>,
    /// Values to copy to slots at the end, where they could not be written in place.
    pub(crate) copies: Vec<(View, View)>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) writes_state: bool,
    /// Bytes of values alive at each step, workspace included: what the lifetimes alone would need.
    pub(crate) live: Vec<usize>,
    /// On a GPU: the program as a graph.
    pub(crate) captured: Captured,
    /// On a GPU: where the inputs lie before they are sent, all in one copy.
    pub(crate) staging: Option<Staging>,
    /// Outputs that were asked for and not yet taken, and page-locked memory to ask with.
    pub(crate) asked: Asked,
}

/// The memory that a program owns.
pub(crate) enum Arena {
    Host(Buffer),
    Gpu(Arc<Gpu>, gpu::Buffer<u8>),
}

impl Arena {
    fn new(device: &Device, bytes: usize) -> Result<Self> {
        Ok(match device.as_gpu() {
            None => Self::Host(Buffer::zeroed(bytes)?),
            Some(gpu) => Self::Gpu(Arc::clone(gpu), gpu.zeros(bytes)?),
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Host(b) => b.len(),
            Self::Gpu(_, b) => b.len(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage {
    pub(crate) bytes: usize,
    pub(crate) first: usize,
    pub(crate) last: usize,
    offset: usize,
}

/// Where a value lives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Home {
    None,
    Arena(usize),
    Slot(Slot),
}

pub(crate) struct Planner<'a> {
    pub(crate) tape: &'a Tape,
    pub(crate) order: Vec<usize>,
    /// Step that makes each value (0 for host inputs and slots), and the last that reads it.
    last: Vec<usize>,
    pub(crate) homes: Vec<Home>,
    pub(crate) storages: Vec<Storage>,
    /// The first storages are the inputs'.
    inputs: usize,
}

const END: usize = usize::MAX;

impl Tape {
    /// Decides memory and kernels for everything that `outputs` and the assigned slots depend on.
    ///
    /// # Errors
    /// If an output is foreign, or there is no memory.
    #[track_caller]
    pub fn plan(&self, device: &Device, outputs: &[Var]) -> Result<Plan> {
        for v in outputs {
            self.check(*v, Location::caller())?;
        }
        let _turn = device.as_gpu().map(|gpu| gpu.turn());
        let mut roots: Vec<Var> = outputs.to_vec();
        roots.extend(self.slots.iter().filter_map(|u| u.assigned));
        let mut p = Planner::new(self, &roots);
        p.place_slots();
        let prepared: Vec<Prepared> = p.order.iter().map(|&n| p.prepare(device, n)).collect::<Result<_>>()?;
        p.place_values(&roots);
        let work: Vec<usize> =
            prepared.iter().enumerate().map(|(i, k)| p.storage(k.workspace, i + 1, i + 1)).collect();
        let bytes = p.assign_offsets();
        p.finish(device, outputs, prepared, &work, bytes)
    }
}

impl<'a> Planner<'a> {
    /// Liveness: the nodes that matter, in recorded order, and the last reader of each value.
    fn new(tape: &'a Tape, roots: &[Var]) -> Self {
        let mut alive = vec![false; tape.values.len()];
        roots.iter().for_each(|v| alive[v.index()] = true);
        let mut order = Vec::new();
        for (i, node) in tape.nodes.iter().enumerate().rev() {
            if node.outputs.iter().any(|o| alive[o.index()]) {
                node.inputs.iter().for_each(|v| alive[v.index()] = true);
                order.push(i);
            }
        }
        order.reverse();
        let mut last = vec![0; tape.values.len()];
        for (step, &n) in order.iter().enumerate() {
            let node = &tape.nodes[n];
            node.outputs.iter().chain(&node.inputs).for_each(|v| last[v.index()] = step + 1);
        }
        roots.iter().for_each(|v| last[v.index()] = END);
        Self {
            tape,
            order,
            last,
            homes: vec![Home::None; tape.values.len()],
            storages: Vec::new(),
            inputs: 0,
        }
    }

    fn step_of(&self, v: Var) -> usize {
        match self.tape.values[v.index()].source {
            Source::Node { node } => self.order.binary_search(&node).map_or(0, |s| s + 1),
            _ => 0,
        }
    }

    /// Assigned values that may live in their slot from the start.
    fn place_slots(&mut self) {
        for u in &self.tape.slots {
            if let Some(leaf) = u.leaf {
                self.homes[leaf.index()] = Home::Slot(u.slot);
            }
        }
        for u in &self.tape.slots {
            let Some(v) = u.assigned else { continue };
            let step = self.step_of(v);
            let free = match u.leaf.map(|l| (l, self.last[l.index()])) {
                None => true,
                Some((_, last)) if last < step => true,
                Some((leaf, last)) if last == step => self.may_share(v, leaf, step),
                Some(_) => false,
            };
            if free {
                self.homes[v.index()] = Home::Slot(u.slot);
            }
        }
    }

    /// Whether the node of step `step` may write its output `v` over its input `input`, read there for the last time.
    fn may_share(&self, v: Var, input: Var, step: usize) -> bool {
        let node = &self.tape.nodes[self.order[step - 1]];
        let uses = node.inputs.iter().filter(|i| **i == input).count();
        let port = node.outputs.iter().position(|o| *o == v);
        let at = node.inputs.iter().position(|i| *i == input);
        let same = self.tape.values[v.index()].spec.bytes() == self.tape.values[input.index()].spec.bytes();
        match (port, at) {
            (Some(o), Some(i)) => uses == 1 && same && node.op.may_alias().contains(&(o, i)),
            _ => false,
        }
    }

    fn prepare(&self, device: &Device, n: usize) -> Result<Prepared> {
        let (x, y) = self.specs(n);
        self.tape.nodes[n].op.prepare(device, &x, &y)
    }

    fn specs(&self, n: usize) -> (Vec<Spec>, Vec<Spec>) {
        let node = &self.tape.nodes[n];
        let of = |vs: &[Var]| vs.iter().map(|v| self.tape.values[v.index()].spec).collect();
        (of(&node.inputs), of(&node.outputs))
    }

    fn storage(&mut self, bytes: usize, first: usize, last: usize) -> usize {
        self.storages.push(Storage { bytes: bytes.next_multiple_of(ALIGN), first, last, offset: 0 });
        self.storages.len() - 1
    }

    /// Arena storage for everything else, sharing it along in-place ops.
    fn place_values(&mut self, roots: &[Var]) {
        for i in 0..self.tape.values.len() {
            let value = &self.tape.values[i];
            if matches!(value.source, Source::Input(_)) && self.last[i] > 0 {
                self.last[i] = END;
                let s = self.storage(value.spec.bytes(), 0, END);
                self.homes[i] = Home::Arena(s);
            }
        }
        self.inputs = self.storages.len();
        for step in 1..=self.order.len() {
            let node = &self.tape.nodes[self.order[step - 1]];
            let mut taken = Vec::new();
            for &v in &node.outputs {
                if self.homes[v.index()] != Home::None {
                    continue;
                }
                let donor = node.inputs.iter().find_map(|i| match self.homes[i.index()] {
                    Home::Arena(s)
                        if self.last[i.index()] == step && !taken.contains(&s) && !roots.contains(i) =>
                    {
                        self.may_share(v, *i, step).then_some(s)
                    }
                    _ => None,
                });
                let s = match donor {
                    Some(s) => s,
                    None => self.storage(self.tape.values[v.index()].spec.bytes(), step, step),
                };
                taken.push(s);
                self.storages[s].last = self.last[v.index()].max(step);
                self.homes[v.index()] = Home::Arena(s);
            }
        }
    }

    /// Inputs one after the other, then first fit by decreasing size; returns the arena's size.
    fn assign_offsets(&mut self) -> usize {
        let mut size = 0;
        for s in &mut self.storages[..self.inputs] {
            s.offset = size;
            size += s.bytes;
        }
        let filled = |s: &usize| self.storages[*s].bytes > 0;
        let mut placed: Vec<usize> = (0..self.inputs).filter(filled).collect();
        let mut by_size: Vec<usize> = (self.inputs..self.storages.len()).filter(filled).collect();
        by_size.sort_by_key(|&s| (core::cmp::Reverse(self.storages[s].bytes), s));
        for s in by_size {
            let me = self.storages[s];
            let mut offset = 0;
            // `placed` is sorted by offset: take the first gap among those alive at the same time.
            for &o in &placed {
                let other = self.storages[o];
                if other.last < me.first || me.last < other.first {
                    continue;
                }
                if offset + me.bytes <= other.offset {
                    break;
                }
                offset = offset.max(other.offset + other.bytes);
            }
            self.storages[s].offset = offset;
            size = size.max(offset + me.bytes);
            let at = placed.partition_point(|&o| self.storages[o].offset < offset);
            placed.insert(at, s);
        }
        size
    }

    fn view(&self, v: Var) -> View {
        let len = self.tape.values[v.index()].spec.bytes();
        match self.homes[v.index()] {
            Home::Slot(s) => View { space: Space::Slot(s.id), offset: 0, len },
            Home::Arena(s) => View { space: Space::Arena, offset: self.storages[s].offset, len },
            Home::None => View { space: Space::Arena, offset: 0, len: 0 },
        }
    }

    /// The program's memory, and the bytes alive at each step.
    fn allocate(&self, device: &Device, bytes: usize, work: &[usize]) -> Result<(Arena, Vec<usize>)> {
        let alive = |t| self.storages.iter().filter(move |s| s.first <= t && t <= s.last);
        let live: Vec<usize> = (1..=self.order.len()).map(|t| alive(t).map(|s| s.bytes).sum()).collect();
        let state = self.tape.slots.iter().map(|u| u.slot.spec.bytes()).sum();
        let arena = explain(Arena::new(device, bytes), device, (bytes, state), || self.holders(&live, work))?;
        Ok((arena, live))
    }

    fn finish(
        self,
        device: &Device,
        outputs: &[Var],
        prepared: Vec<Prepared>,
        work: &[usize],
        bytes: usize,
    ) -> Result<Plan> {
        let mut steps = Vec::with_capacity(self.order.len());
        for ((&n, p), &w) in self.order.iter().zip(prepared).zip(work) {
            let node = &self.tape.nodes[n];
            let (x, y) = self.specs(n);
            let views = |vs: &[Var]| vs.iter().map(|v| self.view(*v)).collect::<Vec<_>>();
            let (ins, outs) = (views(&node.inputs), views(&node.outputs));
            let workspace = View { space: Space::Arena, offset: self.storages[w].offset, len: p.workspace };
            let (name, site) = (node.op.name(), node.site);
            let access = Access::new(ins.clone(), outs.clone(), workspace, node.op.may_alias())
                .map_err(|e| Error::Kernel { op: name, site, source: e.into() })?;
            steps.push(Step {
                name,
                site,
                inputs: node.inputs.clone(),
                outputs: node.outputs.iter().copied().zip(y.iter().copied()).collect(),
                access,
                views: (ins, outs, workspace),
                cost: Cost { flops: node.op.flops(&x, &y), bytes: node.op.bytes(&x, &y) },
                kernel: p.kernel,
            });
        }
        let copies = self
            .tape
            .slots
            .iter()
            .filter_map(|u| u.assigned.map(|v| (self.view(v), u.slot)))
            .map(|(from, slot)| {
                (from, View { space: Space::Slot(slot.id), offset: 0, len: slot.spec.bytes() })
            })
            .filter(|(from, to)| from != to)
            .collect();
        let binds = (0..self.tape.values.len())
            .filter_map(|i| {
                let v = Var { tape: self.tape.tag(), id: i as u32 };
                match (&self.tape.values[i].source, self.homes[i]) {
                    (Source::Input(name), Home::Arena(_)) => {
                        Some((v, name.clone(), self.tape.values[i].spec, self.view(v)))
                    }
                    _ => None,
                }
            })
            .collect();
        let (arena, live) = self.allocate(device, bytes, work)?;
        let sent = self.storages[..self.inputs].iter().map(|s| s.bytes).sum();
        let staging = device.as_gpu().filter(|_| sent > 0).map(|gpu| gpu.staging(sent)).transpose()?;
        let plan = Plan {
            device: device.clone(),
            tag: self.tape.tag(),
            steps,
            arena,
            binds,
            outputs: outputs.iter().map(|v| (*v, self.tape.values[v.index()].spec, self.view(*v))).collect(),
            copies,
            slots: self.tape.slots.iter().map(|u| u.slot).collect(),
            writes_state: self.tape.slots.iter().any(|u| u.assigned.is_some()),
            live,
            captured: Captured::default(),
            staging,
            asked: Asked::default(),
        };
        if device.debug.plan {
            eprintln!("{}", plan.dump());
        }
        Ok(plan)
    }
}

impl Plan {
    /// Bytes of memory the program owns.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// The most bytes alive at one step: a lower bound of any plan for this order.
    pub fn live_bytes(&self) -> usize {
        self.live.iter().copied().max().unwrap_or(0)
    }

    /// End of the last byte of the arena that an input, a node, its workspace or an output touches, rounded up to
    /// whole lines: what [`Plan::bytes`] must be.
    pub fn used_bytes(&self) -> usize {
        let of_steps = self.steps.iter().flat_map(|s| s.views.0.iter().chain(&s.views.1).chain([&s.views.2]));
        let of_ends = self.binds.iter().map(|b| &b.3).chain(self.outputs.iter().map(|o| &o.2));
        let ends = of_steps.chain(of_ends).filter(|v| v.space == Space::Arena && v.len > 0);
        ends.map(|v| v.offset + v.len.next_multiple_of(ALIGN)).max().unwrap_or(0)
    }

    /// FLOPs and bytes of one run.
    pub fn cost(&self) -> Cost {
        let add = |a: Cost, s: &Step| Cost { flops: a.flops + s.cost.flops, bytes: a.bytes + s.cost.bytes };
        self.steps.iter().fold(Cost::default(), add)
    }

    /// Number of nodes that run.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing runs.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Number of nodes of an op that run.
    pub fn count(&self, name: &str) -> usize {
        self.steps.iter().filter(|s| s.name == name).count()
    }
}

impl core::fmt::Debug for Plan {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Plan({} nodes, {} bytes, {:?})", self.len(), self.bytes(), self.device)
    }
}
