//! The tape: a flat program of recorded ops. Recording infers shapes and appends; nothing is computed.
//!
//! Invariants: a node's inputs were recorded before it; state is in static single assignment form: reading a slot
//! gives the value last assigned to it on this tape, or the value it has when the program starts.

use crate::error::{Error, Result, Site};
use crate::op::Op;
use crate::ops::elementwise::Identity;
use crate::spec::Spec;
use crate::state::Slot;
use core::panic::Location;
use std::sync::Arc;

/// A value on a tape: a copyable index with its tape's tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Var {
    pub(crate) tape: usize,
    pub(crate) id: u32,
}

impl Var {
    pub(crate) fn index(self) -> usize {
        self.id as usize
    }
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Given by the host at each run.
    Input(String),
    /// A slot's content at the start.
    Slot,
    /// An output of a node.
    Node { node: usize },
}

#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub spec: Spec,
    pub source: Source,
}

/// A recorded op.
#[derive(Clone, Debug)]
pub struct NodeRef {
    /// The op.
    pub op: Arc<dyn Op>,
    /// Its inputs.
    pub inputs: Vec<Var>,
    /// Its outputs.
    pub outputs: Vec<Var>,
    /// Where it was recorded.
    pub site: Site,
}

/// A program being recorded.
#[derive(Debug)]
pub struct Tape {
    /// Its address tells this tape's variables from others' and survives moves.
    tag: Box<u8>,
    pub(crate) nodes: Vec<NodeRef>,
    pub(crate) values: Vec<Value>,
    /// Slots touched: the value at the start (if read) and the current value.
    pub(crate) slots: Vec<SlotUse>,
}

#[derive(Clone, Debug)]
pub(crate) struct SlotUse {
    pub slot: Slot,
    pub leaf: Option<Var>,
    pub assigned: Option<Var>,
}

impl Default for Tape {
    fn default() -> Self {
        Self::new()
    }
}

impl Tape {
    /// An empty tape.
    pub fn new() -> Self {
        Self { tag: Box::new(0), nodes: Vec::new(), values: Vec::new(), slots: Vec::new() }
    }

    pub(crate) fn tag(&self) -> usize {
        core::ptr::from_ref(&*self.tag).addr()
    }

    fn push(&mut self, value: Value) -> Var {
        let id = self.values.len() as u32;
        self.values.push(value);
        Var { tape: self.tag(), id }
    }

    /// A value that the host gives at each run.
    pub fn input(&mut self, name: &str, spec: Spec) -> Var {
        self.push(Value { spec, source: Source::Input(name.to_owned()) })
    }

    /// The spec of a value.
    ///
    /// # Errors
    /// If it belongs to another tape.
    #[track_caller]
    pub fn spec(&self, v: Var) -> Result<Spec> {
        self.check(v, Location::caller())?;
        Ok(self.values[v.index()].spec)
    }

    pub(crate) fn check(&self, v: Var, site: Site) -> Result<()> {
        if v.tape == self.tag() {
            Ok(())
        } else {
            Err(Error::Tape { detail: "this variable belongs to another tape".into(), site })
        }
    }

    /// Appends an op and returns its outputs.
    ///
    /// # Errors
    /// If the inputs do not fit it; the error names op, specs and the caller's line.
    #[track_caller]
    pub fn record(&mut self, op: impl Op, inputs: &[Var]) -> Result<Vec<Var>> {
        self.record_at(Arc::new(op), inputs, Location::caller())
    }

    /// As [`Tape::record`] for ops with one output.
    ///
    /// # Errors
    /// As [`Tape::record`].
    #[track_caller]
    pub fn one(&mut self, op: impl Op, inputs: &[Var]) -> Result<Var> {
        Ok(self.record_at(Arc::new(op), inputs, Location::caller())?[0])
    }

    pub(crate) fn record_at(&mut self, op: Arc<dyn Op>, inputs: &[Var], site: Site) -> Result<Vec<Var>> {
        for v in inputs {
            self.check(*v, site)?;
        }
        let specs: Vec<Spec> = inputs.iter().map(|v| self.values[v.index()].spec).collect();
        let name = op.name();
        let shape_error = |detail: String| Error::Shape { op: name, detail, inputs: specs.clone(), site };
        if let Some(i) = specs.iter().position(Spec::is_empty) {
            return Err(shape_error(format!("input {i} has no elements")));
        }
        let outs = op.infer(&specs).map_err(shape_error)?;
        let node = self.nodes.len();
        let outputs: Vec<Var> =
            outs.into_iter().map(|spec| self.push(Value { spec, source: Source::Node { node } })).collect();
        self.nodes.push(NodeRef { op, inputs: inputs.to_vec(), outputs: outputs.clone(), site });
        Ok(outputs)
    }

    /// The node that made `v`, if it was made by one.
    pub fn maker(&self, v: Var) -> Option<&NodeRef> {
        match self.values.get(v.index()).map(|v| &v.source) {
            Some(Source::Node { node }) if v.tape == self.tag() => Some(&self.nodes[*node]),
            _ => None,
        }
    }

    /// Number of recorded nodes, by op name, for tests and dumps.
    pub fn count(&self, name: &str) -> usize {
        self.nodes.iter().filter(|n| n.op.name() == name).count()
    }

    /// Number of recorded nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The current value of a slot.
    pub fn read(&mut self, slot: Slot) -> Var {
        if let Some(i) = self.slots.iter().position(|u| u.slot == slot) {
            let u = &self.slots[i];
            if let Some(v) = u.assigned.or(u.leaf) {
                return v;
            }
        }
        let leaf = self.push(Value { spec: slot.spec, source: Source::Slot });
        match self.slots.iter_mut().find(|u| u.slot == slot) {
            Some(u) => u.leaf = Some(leaf),
            None => self.slots.push(SlotUse { slot, leaf: Some(leaf), assigned: None }),
        }
        leaf
    }

    /// Gives a slot a new value, from here on this tape and, after the run, for all programs of the state.
    ///
    /// # Errors
    /// If the specs differ.
    #[track_caller]
    pub fn assign(&mut self, slot: Slot, v: Var) -> Result<()> {
        let site = Location::caller();
        let spec = self.spec(v)?;
        if spec != slot.spec {
            let detail = format!("a slot of {} cannot take {spec}", slot.spec);
            return Err(Error::Tape { detail, site });
        }
        // Values that no node made, or that another slot already takes, get a node of their own: the planner then
        // only ever stores what nodes write.
        let taken = self.slots.iter().any(|u| u.assigned == Some(v) && u.slot != slot);
        let v = match self.values[v.index()].source {
            Source::Node { .. } if !taken => v,
            _ => self.record_at(Arc::new(Identity), &[v], site)?[0],
        };
        match self.slots.iter_mut().find(|u| u.slot == slot) {
            Some(u) => u.assigned = Some(v),
            None => self.slots.push(SlotUse { slot, leaf: None, assigned: Some(v) }),
        }
        Ok(())
    }
}
