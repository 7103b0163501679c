//! The tape: a flat program of recorded ops. Recording infers shapes and appends; nothing is computed.
//!
//! Invariant: a node's inputs were recorded before it.

use crate::error::{Error, Result, Site};
use crate::op::Op;
use crate::spec::Spec;
use crate::state::Slot;
use core::panic::Location;
use std::sync::Arc;

/// A value on a tape. Using it on another tape is an error.
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

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// An input, given by the host at each run, with its name.
    Input(String),
    /// A slot's content when the program starts.
    Slot,
    /// An output of a node.
    Node { node: usize },
}

#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub spec: Spec,
    pub origin: Origin,
}

/// A recorded op.
#[derive(Clone, Debug)]
pub struct Node {
    /// The op.
    pub op: Arc<dyn Op>,
    /// Its inputs.
    pub inputs: Vec<Var>,
    /// Its outputs.
    pub outputs: Vec<Var>,
    /// Where it was recorded.
    pub site: Site,
}

/// A program being recorded: a list of nodes, each an op with its inputs and outputs.
///
/// ```
/// use engine::ops::elementwise::Mul;
/// use engine::ops::reduce::SumAll;
/// use engine::{Device, HostTensor, Spec, State, Tape};
///
/// let mut tape = Tape::new();
/// let x = tape.input("x", Spec::f32(&[4]));
/// let squares = tape.one(Mul, &[x, x])?;
/// let sum = tape.one(SumAll { factor: 1.0 }, &[squares])?;
/// assert_eq!(tape.spec(squares)?.to_string(), "f32[4]");
///
/// let mut plan = tape.plan(&Device::cpu(1), &[sum])?;
/// plan.run(&mut State::new(), &[(x, HostTensor::F32(&[1.0, 2.0, 3.0, 4.0]))])?;
/// assert_eq!(plan.scalar(sum)?, 30.0);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Tape {
    /// Its address tells this tape's variables from those of other tapes, and stays when the tape moves.
    tag: Box<u8>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) values: Vec<Value>,
    /// The slots that are read or assigned.
    pub(crate) slots: Vec<SlotUse>,
}

/// How a tape uses a slot.
#[derive(Clone, Debug)]
pub(crate) struct SlotUse {
    pub slot: Slot,
    /// The value that it has when the program starts, if that is read.
    pub initial: Option<Var>,
    /// The value last assigned to it.
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

    pub(crate) fn push(&mut self, value: Value) -> Var {
        let id = self.values.len() as u32;
        self.values.push(value);
        Var { tape: self.tag(), id }
    }

    /// A value that the host gives at each run.
    pub fn input(&mut self, name: &str, spec: Spec) -> Var {
        self.push(Value { spec, origin: Origin::Input(name.to_owned()) })
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

    /// Appends an op with one output, like [`Tape::record`], and returns the output.
    ///
    /// # Errors
    /// Those of [`Tape::record`].
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
            outs.into_iter().map(|spec| self.push(Value { spec, origin: Origin::Node { node } })).collect();
        self.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: outputs.clone(), site });
        Ok(outputs)
    }

    /// The node that computes `v`; `None` for inputs, slots and variables of other tapes.
    pub fn producer(&self, v: Var) -> Option<&Node> {
        match self.values.get(v.index()).map(|v| &v.origin) {
            Some(Origin::Node { node }) if v.tape == self.tag() => Some(&self.nodes[*node]),
            _ => None,
        }
    }

    /// Whether `v` is a tensor of zeros that was recorded as one, such as the gradient of what a loss does not depend on.
    pub fn is_zero(&self, v: Var) -> bool {
        self.producer(v).is_some_and(|node| node.op.is_zero())
    }

    /// Number of recorded nodes of the op called `name`.
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
}
