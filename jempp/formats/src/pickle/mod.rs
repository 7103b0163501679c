//! Python pickles, protocols 0 to 5, read without Python: what they say, as data.
//!
//! Invariants: nothing named in a pickle is ever called, imported or looked up; calls are kept as [`Value::Object`]s
//! that say what would have been called with what. Memory is at most 64 times the bytes read, and time grows with
//! them: an object that occurs twice is kept once. No recursion, no panic, whatever the bytes are.
//!
//! A pickle may contain itself, and a short one may unfold to an endless tree. So code that uses one must go no deeper
//! than its format does, and never walk "all of it".
//!
//! Source: CPython's `pickletools.py`, which defines every opcode.

mod machine;
pub mod numpy;
mod objects;
mod text;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;

pub use value::{Item, Items, Object, Pairs, Value};

/// The number of a node.
type Id = u32;

/// Why bytes are no pickle, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where in the bytes it shows.
    pub offset: usize,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pickle, byte {}: {}", self.offset, self.why)
    }
}

/// A pickle that has been read. Long strings stay in the bytes it was read from.
pub struct Pickle<'a> {
    nodes: Nodes<'a>,
    root: Id,
    length: usize,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle that `bytes` begin with.
    ///
    /// # Errors
    /// A [`Fault`] where the bytes end early or make no sense, or need what only Python has (extension codes, buffers
    /// kept elsewhere).
    pub fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        machine::run(bytes, usize::MAX)
    }

    /// The same of a pickle that is mostly long strings: it may have at most `most` instructions, which bounds what it
    /// takes in memory beside those.
    ///
    /// # Errors
    /// As [`Pickle::read`], and where it has more.
    pub fn read_short(bytes: &'a [u8], most: usize) -> Result<Self, Fault> {
        machine::run(bytes, most)
    }

    /// The object.
    pub fn root(&self) -> Item<'_> {
        Item::new(self, self.root)
    }

    /// How many of the bytes belong to it; another pickle may follow.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The names of all objects kept elsewhere, in the order in which they came.
    pub fn persistent(&self) -> impl Iterator<Item = Item<'_>> {
        let names = self.nodes.0.iter().flatten();
        names.filter_map(|n| if let Node::Persistent(id) = n { Some(Item::new(self, *id)) } else { None })
    }
}

/// An object; what it contains is named by number.
enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Long(&'a [u8]),
    OwnLong(Box<[u8]>),
    Str(&'a str),
    OwnStr(Box<str>),
    Bytes(&'a [u8]),
    OwnBytes(Box<[u8]>),
    List(Vec<Id>),
    Tuple(Box<[Id]>),
    Set(Vec<Id>),
    /// Keys and values in turn.
    Dict(Vec<Id>),
    /// Module and name.
    Global(Id, Id),
    Object(Box<Parts>),
    Persistent(Id),
}

/// A call, and what was done to its result.
struct Parts {
    callable: Id,
    args: Id,
    kwargs: Option<Id>,
    state: Option<Id>,
    items: Vec<Id>,
    pairs: Vec<Id>,
}

/// Nodes of which every pickle has one.
const NONE: Id = 0;
const TRUE: Id = 1;
const FALSE: Id = 2;
const EMPTY: Id = 3;
/// Nodes in a piece of memory.
const PIECE: usize = 1 << 10;

/// All nodes, in pieces, so that growth never copies them: a copy would take as much again.
struct Nodes<'a>(Vec<Vec<Node<'a>>>);

impl<'a> Nodes<'a> {
    fn new() -> Self {
        let mut first = Vec::with_capacity(PIECE);
        first.extend([Node::None, Node::Bool(true), Node::Bool(false), Node::Tuple(Box::default())]);
        Self(vec![first])
    }

    /// Adds a node; `None` when there are 2³² of them.
    fn add(&mut self, node: Node<'a>) -> Option<Id> {
        let full = self.0.last().is_none_or(|piece| piece.len() == PIECE);
        if full {
            self.0.push(Vec::with_capacity(PIECE));
        }
        let before = (self.0.len() - 1) * PIECE;
        let piece = self.0.last_mut()?;
        let id = Id::try_from(before + piece.len()).ok()?;
        piece.push(node);
        Some(id)
    }

    /// A node; ids come from [`Nodes::add`], so it is there.
    fn get(&self, id: Id) -> &Node<'a> {
        let i = id as usize;
        self.0.get(i / PIECE).and_then(|piece| piece.get(i % PIECE)).unwrap_or(&Node::None)
    }

    fn get_mut(&mut self, id: Id) -> Option<&mut Node<'a>> {
        let i = id as usize;
        self.0.get_mut(i / PIECE)?.get_mut(i % PIECE)
    }
}
