//! Python pickles, protocols 0 to 5, read as data, without Python.
//!
//! Invariants: nothing named in a pickle is called, imported or looked up; calls are kept as [`Value::Object`]s that
//! record the callable and its arguments. Memory is at most 64 times the bytes read, and time is linear in them: an
//! object that is referenced twice is stored once. No recursion and no panic, whatever the bytes are.
//!
//! A pickle may contain itself, and a short one may expand to an endless tree. Code that uses one must therefore
//! descend no deeper than its format does and never traverse the whole graph.
//!
//! Source: CPython's `pickletools.py`, which defines every opcode.

mod fault;
mod machine;
mod node;
pub mod numpy;
mod objects;
mod text;
mod value;

#[cfg(test)]
mod tests;

use node::{Id, Nodes};

pub use fault::Fault;
pub use value::{Item, Items, Object, Pairs, Value};

/// A pickle that has been read. Strings and bytes are not copied out of the file.
pub struct Pickle<'a> {
    nodes: Nodes<'a>,
    root: Id,
    length: usize,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the start of `bytes`.
    ///
    /// # Errors
    /// A [`Fault`] if the bytes are truncated or invalid, or refer to something outside the file (extension codes,
    /// out-of-band buffers).
    pub fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        Self::read_short(bytes, usize::MAX)
    }

    /// Reads a pickle like [`Pickle::read`], with a limit of `most` instructions, which bounds the memory that is needed.
    /// For pickles that consist mostly of long strings.
    ///
    /// # Errors
    /// Those of [`Pickle::read`]; also if there are more instructions.
    pub fn read_short(bytes: &'a [u8], most: usize) -> Result<Self, Fault> {
        let (nodes, root, length) = machine::run(bytes, most)?;
        Ok(Self { nodes, root, length })
    }

    /// The pickled object.
    pub fn root(&self) -> Item<'_> {
        Item::new(&self.nodes, self.root)
    }

    /// Length of the pickle in bytes; another one may follow.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The identifiers of all objects stored outside the pickle, in the order of the file.
    pub(crate) fn persistent(&self) -> impl Iterator<Item = Item<'_>> {
        self.nodes.persistent().map(|id| Item::new(&self.nodes, id))
    }
}
