//! What the stack machine builds: objects that refer to each other by number.

/// The number of a node.
pub(super) type Id = u32;

/// An object. It refers to the objects it contains by their numbers.
pub(super) enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// An integer of more than 64 bits: two's complement, little-endian.
    Long(&'a [u8]),
    OwnLong(Box<[u8]>),
    Str(&'a str),
    OwnStr(Box<str>),
    Bytes(&'a [u8]),
    OwnBytes(Box<[u8]>),
    List(Vec<Id>),
    Tuple(Box<[Id]>),
    Set(Vec<Id>),
    /// Keys and values, alternating.
    Dict(Vec<Id>),
    /// Module and name.
    Global(Id, Id),
    /// A call recorded instead of executed.
    Object(Box<Parts>),
    /// An object stored outside the pickle, and its identifier.
    Persistent(Id),
}

/// A call and what the pickle does with its result.
pub(super) struct Parts {
    pub callable: Id,
    pub args: Id,
    pub kwargs: Option<Id>,
    pub state: Option<Id>,
    /// Appended elements.
    pub items: Vec<Id>,
    /// Entered keys and values, alternating.
    pub pairs: Vec<Id>,
}

/// Constants that every [`Nodes`] starts with.
pub(super) const NONE: Id = 0;
pub(super) const TRUE: Id = 1;
pub(super) const FALSE: Id = 2;
pub(super) const EMPTY: Id = 3;
/// Nodes per chunk.
const CHUNK: usize = 1 << 10;

/// All nodes, in chunks of fixed size: a growing `Vec` would need twice the memory while it copies.
pub(super) struct Nodes<'a>(pub(super) Vec<Vec<Node<'a>>>);

impl<'a> Nodes<'a> {
    /// The constants only.
    pub(super) fn new() -> Self {
        let mut first = Vec::with_capacity(CHUNK);
        first.extend([Node::None, Node::Bool(true), Node::Bool(false), Node::Tuple(Box::default())]);
        Self(vec![first])
    }

    /// Adds a node and returns its number; `None` if there are 2³² already.
    pub(super) fn add(&mut self, node: Node<'a>) -> Option<Id> {
        let full = self.0.last().is_none_or(|chunk| chunk.len() == CHUNK);
        if full {
            self.0.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.0.len() - 1) * CHUNK;
        let chunk = self.0.last_mut()?;
        let id = Id::try_from(before + chunk.len()).ok()?;
        chunk.push(node);
        Some(id)
    }

    /// Node `id`, which exists because numbers come from [`Nodes::add`].
    pub(super) fn get(&self, id: Id) -> &Node<'a> {
        let i = id as usize;
        self.0.get(i / CHUNK).and_then(|chunk| chunk.get(i % CHUNK)).unwrap_or(&Node::None)
    }

    /// Node `id`, to be modified.
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Node<'a>> {
        let i = id as usize;
        self.0.get_mut(i / CHUNK)?.get_mut(i % CHUNK)
    }

    /// The identifiers of all objects stored outside the pickle, in the order of the file.
    pub(super) fn persistent(&self) -> impl Iterator<Item = Id> {
        self.0.iter().flatten().filter_map(|n| if let Node::Persistent(id) = n { Some(*id) } else { None })
    }
}
