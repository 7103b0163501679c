//! Where every value of a program lies: lifetimes, aliases, offsets.
//!
//! Invariants: a value's memory is not reused before its last reader ran; a slot is overwritten in place only after
//! the last read of its old value; `kernels::memory::Access` checks again what is decided here. Inputs lie together at
//! the start of the arena, so that one copy brings them, and are kept, so that a program can run on them again.

use crate::out_of_memory::{Allocation, largest};
use crate::spec::Spec;
use crate::state::Slot;
use crate::tape::{Origin, Tape, Var};
use kernels::memory::{Space, View};

/// A piece of the arena that one value or workspace, or several one after the other, live in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage {
    bytes: usize,
    /// The first and the last step at which it is in use.
    first: usize,
    last: usize,
    offset: usize,
}

/// Where a value lives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Home {
    None,
    Arena(usize),
    Slot(Slot),
}

/// The layout of a program while it is being decided. Step 0 is before the first node; step i runs node `order[i − 1]`.
pub(crate) struct Planner<'a> {
    pub(crate) tape: &'a Tape,
    /// The nodes that run.
    pub(crate) order: Vec<usize>,
    /// The last step that makes or reads each value.
    last: Vec<usize>,
    /// Where each value of the tape lives.
    pub(crate) homes: Vec<Home>,
    storages: Vec<Storage>,
    /// How many storages are inputs; these come first.
    inputs: usize,
    /// Bytes to which storages are aligned.
    align: usize,
}

/// The step after all others: of what is kept until the next run.
const END: usize = usize::MAX;

impl<'a> Planner<'a> {
    /// Liveness analysis: the nodes on which `roots` depend, in recorded order, and the last reader of each value.
    pub(crate) fn new(tape: &'a Tape, roots: &[Var], align: usize) -> Self {
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
            align,
        }
    }

    fn step_of(&self, v: Var) -> usize {
        match self.tape.values[v.index()].origin {
            Origin::Node { node } => self.order.binary_search(&node).map_or(0, |s| s + 1),
            _ => 0,
        }
    }

    /// Places assigned values in their slot where its old value is not read any more, or only by the node that overwrites
    /// it.
    pub(crate) fn place_slots(&mut self) {
        for u in &self.tape.slots {
            if let Some(initial) = u.initial {
                self.homes[initial.index()] = Home::Slot(u.slot);
            }
        }
        for u in &self.tape.slots {
            let Some(v) = u.assigned else { continue };
            let step = self.step_of(v);
            let free = match u.initial.map(|l| (l, self.last[l.index()])) {
                None => true,
                Some((_, last)) if last < step => true,
                Some((initial, last)) if last == step => self.may_share(v, initial, step),
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

    pub(crate) fn specs(&self, n: usize) -> (Vec<Spec>, Vec<Spec>) {
        let node = &self.tape.nodes[n];
        let of = |vs: &[Var]| vs.iter().map(|v| self.tape.values[v.index()].spec).collect();
        (of(&node.inputs), of(&node.outputs))
    }

    pub(crate) fn storage(&mut self, bytes: usize, first: usize, last: usize) -> usize {
        self.storages.push(Storage { bytes: bytes.next_multiple_of(self.align), first, last, offset: 0 });
        self.storages.len() - 1
    }

    /// Gives everything else storage in the arena; ops that work in place pass theirs on.
    pub(crate) fn place_values(&mut self, roots: &[Var]) {
        for i in 0..self.tape.values.len() {
            let value = &self.tape.values[i];
            if matches!(value.origin, Origin::Input(_)) && self.last[i] > 0 {
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

    /// Places inputs one after the other and everything else by first fit in decreasing size; returns the arena's size.
    pub(crate) fn assign_offsets(&mut self) -> usize {
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

    pub(crate) fn view(&self, v: Var) -> View {
        let len = self.tape.values[v.index()].spec.bytes();
        match self.homes[v.index()] {
            Home::Slot(s) => View { space: Space::Slot(s.id), offset: 0, len },
            Home::Arena(s) => View { space: Space::Arena, offset: self.storages[s].offset, len },
            Home::None => View { space: Space::Arena, offset: 0, len: 0 },
        }
    }

    /// Bytes of the inputs, which lie at the start of the arena.
    pub(crate) fn input_bytes(&self) -> usize {
        self.storages[..self.inputs].iter().map(|s| s.bytes).sum()
    }

    /// Where the workspace of storage `s` lies.
    pub(crate) fn workspace(&self, s: usize, len: usize) -> View {
        View { space: Space::Arena, offset: self.storages[s].offset, len }
    }

    /// Bytes alive at each step from 1 on.
    pub(crate) fn live_bytes(&self) -> Vec<usize> {
        let alive = |t| self.storages.iter().filter(move |s| s.first <= t && t <= s.last);
        (1..=self.order.len()).map(|t| alive(t).map(|s| s.bytes).sum()).collect()
    }

    /// The largest tensors at the step at which most bytes are alive; `workspaces` are the storages of the steps'
    /// workspaces.
    pub(crate) fn largest_at_peak(&self, live: &[usize], workspaces: &[usize]) -> Vec<Allocation> {
        let peak = live.iter().enumerate().max_by_key(|(_, bytes)| **bytes).map_or(0, |(i, _)| i + 1);
        let mut names = vec![(String::new(), None); self.storages.len()];
        for (value, home) in self.tape.values.iter().zip(&self.homes) {
            let Home::Arena(s) = *home else { continue };
            let name = match &value.origin {
                Origin::Input(name) => format!("input {name}"),
                Origin::Node { node } => self.tape.nodes[*node].op.name().to_owned(),
                Origin::Slot => continue,
            };
            names[s] = (name, Some(value.spec));
        }
        for (&n, &s) in self.order.iter().zip(workspaces) {
            names[s] = (format!("workspace of {}", self.tape.nodes[n].op.name()), None);
        }
        let alive =
            self.storages.iter().zip(names).filter(|(s, _)| s.bytes > 0 && s.first <= peak && peak <= s.last);
        largest(alive.map(|(s, (name, spec))| (name, spec, s.bytes as u64)))
    }
}
