//! Views of the objects in a pickle.

use super::node::{Id, Node, Nodes, Parts};
use std::borrow::Cow;
use std::fmt;

/// A pickled object, by type.
#[derive(Clone, Copy, Debug)]
pub enum Value<'p> {
    /// `None`.
    None,
    /// A boolean.
    Bool(bool),
    /// An integer that fits 64 bits.
    Int(i64),
    /// A longer integer: two's complement, little-endian.
    Long(&'p [u8]),
    /// A float.
    Float(f64),
    /// A string.
    Str(&'p str),
    /// `bytes`, a `bytearray` or a Python 2 string.
    Bytes(&'p [u8]),
    /// A list.
    List(Items<'p>),
    /// A tuple.
    Tuple(Items<'p>),
    /// A set or frozen set, in the order of the file.
    Set(Items<'p>),
    /// A dictionary, in the order of the file.
    Dict(Pairs<'p>),
    /// A class or function, by name only.
    Global {
        /// Its module.
        module: &'p str,
        /// Its name in the module.
        name: &'p str,
    },
    /// The result of a call, which is recorded and not made.
    Object(Object<'p>),
    /// An object stored outside the pickle, and its persistent identifier.
    Persistent(Item<'p>),
}

/// An object within a pickle.
#[derive(Clone, Copy)]
pub struct Item<'p> {
    nodes: &'p Nodes<'p>,
    id: Id,
}

/// A sequence of objects.
#[derive(Clone, Copy)]
pub struct Items<'p> {
    nodes: &'p Nodes<'p>,
    ids: &'p [Id],
}

/// Pairs of keys and values.
#[derive(Clone, Copy)]
pub struct Pairs<'p>(Items<'p>);

/// A recorded call, and what the pickle does with its result.
#[derive(Clone, Copy)]
pub struct Object<'p> {
    nodes: &'p Nodes<'p>,
    parts: &'p Parts,
}

impl<'p> Item<'p> {
    pub(super) fn new(nodes: &'p Nodes<'p>, id: Id) -> Self {
        Self { nodes, id }
    }

    fn at(self, id: Id) -> Self {
        Self { id, ..self }
    }

    fn items(self, ids: &'p [Id]) -> Items<'p> {
        Items { nodes: self.nodes, ids }
    }

    /// The object by type. Takes constant time, however large it is.
    pub fn value(self) -> Value<'p> {
        match self.nodes.get(self.id) {
            Node::None => Value::None,
            Node::Bool(b) => Value::Bool(*b),
            Node::Int(i) => Value::Int(*i),
            Node::Float(x) => Value::Float(*x),
            Node::Long(b) => Value::Long(b),
            Node::OwnLong(b) => Value::Long(b),
            Node::Str(s) => Value::Str(s),
            Node::OwnStr(s) => Value::Str(s),
            Node::Bytes(b) => Value::Bytes(b),
            Node::OwnBytes(b) => Value::Bytes(b),
            Node::List(ids) => Value::List(self.items(ids)),
            Node::Tuple(ids) => Value::Tuple(self.items(ids)),
            Node::Set(ids) => Value::Set(self.items(ids)),
            Node::Dict(ids) => Value::Dict(Pairs(self.items(ids))),
            Node::Global(module, name) => {
                let text = |id: &Id| self.at(*id).as_str().unwrap_or_default();
                Value::Global { module: text(module), name: text(name) }
            }
            Node::Object(parts) => Value::Object(Object { nodes: self.nodes, parts }),
            Node::Persistent(id) => Value::Persistent(self.at(*id)),
        }
    }

    /// A description for error messages.
    pub fn kind(self) -> String {
        let fixed = match self.value() {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) | Value::Long(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Str(_) => "a string",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "a list",
            Value::Tuple(_) => "a tuple",
            Value::Set(_) => "a set",
            Value::Dict(_) => "a dict",
            Value::Global { module, name } => return shown(module, name, "the name"),
            Value::Object(o) => match o.callable().value() {
                Value::Global { module, name } => return shown(module, name, "a call of"),
                _ => "a call",
            },
            Value::Persistent(_) => "an object stored elsewhere",
        };
        fixed.to_owned()
    }

    /// The string, if it is one; a Python 2 string must be UTF-8.
    pub fn as_str(self) -> Option<&'p str> {
        match self.value() {
            Value::Str(s) => Some(s),
            Value::Bytes(b) => std::str::from_utf8(b).ok(),
            _ => None,
        }
    }

    /// The integer, if it is one that fits 64 bits.
    pub fn as_int(self) -> Option<i64> {
        if let Value::Int(i) = self.value() { Some(i) } else { None }
    }

    /// The bytes, if it is such an object; protocols before 3 write `_codecs.encode(s, 'latin1')`, `bytes()` and
    /// `bytearray(b)`.
    pub fn as_bytes(self) -> Option<Cow<'p, [u8]>> {
        if let Value::Bytes(b) = self.value() {
            return Some(Cow::Borrowed(b));
        }
        if let Some(args) = self.call("_codecs", "encode") {
            let latin = matches!(args.get(1)?.as_str()?, "latin1" | "latin-1");
            let text = args.get(0)?.as_str().filter(|_| latin)?;
            let mut bytes = Vec::with_capacity(text.chars().count());
            for c in text.chars() {
                bytes.push(u8::try_from(u32::from(c)).ok()?);
            }
            return Some(Cow::Owned(bytes));
        }
        let either = |name| self.call("builtins", name).or_else(|| self.call("__builtin__", name));
        let args = either("bytes").or_else(|| either("bytearray"))?;
        match (args.len(), args.get(0).map(Self::value)) {
            (0, _) => Some(Cow::Borrowed(&[])),
            (1, Some(Value::Bytes(b))) => Some(Cow::Borrowed(b)),
            _ => None,
        }
    }

    /// The pairs, if it is a dict or a `collections.OrderedDict`.
    pub fn as_pairs(self) -> Option<Pairs<'p>> {
        match self.value() {
            Value::Dict(pairs) => Some(pairs),
            Value::Object(o) if self.call("collections", "OrderedDict").is_some() => Some(o.pairs()),
            _ => None,
        }
    }

    /// The elements, if it is a list or tuple.
    pub fn as_items(self) -> Option<Items<'p>> {
        match self.value() {
            Value::List(items) | Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The arguments, if it is a call of `module.name`.
    pub fn call(self, module: &str, name: &str) -> Option<Items<'p>> {
        let Value::Object(object) = self.value() else { return None };
        match (object.callable().value(), object.args().value()) {
            (Value::Global { module: m, name: n }, Value::Tuple(args)) if (m, n) == (module, name) => {
                Some(args)
            }
            _ => None,
        }
    }

    /// The state that `__setstate__` would receive, if it is a call with one.
    pub fn state(self) -> Option<Self> {
        if let Value::Object(object) = self.value() { object.state() } else { None }
    }
}

/// A qualified name for a message: escaped and of bounded length.
fn shown(module: &str, name: &str, what: &str) -> String {
    let short = |s: &str| s.chars().take(40).flat_map(char::escape_default).collect::<String>();
    format!("{what} {}.{}", short(module), short(name))
}

impl<'p> Items<'p> {
    /// Number of objects.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> usize {
        self.ids.len()
    }

    /// Object `i`.
    pub fn get(self, i: usize) -> Option<Item<'p>> {
        self.ids.get(i).map(|id| Item::new(self.nodes, *id))
    }

    /// The objects in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Item<'p>> + use<'p> {
        self.ids.iter().map(move |id| Item::new(self.nodes, *id))
    }
}

impl<'p> Pairs<'p> {
    /// Number of pairs; a repeated key counts each time.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> usize {
        self.0.len() / 2
    }

    /// The (key, value) pairs in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = (Item<'p>, Item<'p>)> + use<'p> {
        let items = self.0;
        items.ids.chunks_exact(2).map(move |p| (Item::new(items.nodes, p[0]), Item::new(items.nodes, p[1])))
    }

    /// The value of a string key; of repeated keys the last one counts, as in Python. Takes linear time.
    pub fn get(self, key: &str) -> Option<Item<'p>> {
        self.iter().filter(|(k, _)| k.as_str() == Some(key)).last().map(|(_, v)| v)
    }
}

impl<'p> Object<'p> {
    fn item(self, id: Id) -> Item<'p> {
        Item::new(self.nodes, id)
    }

    fn row(self, ids: &'p [Id]) -> Items<'p> {
        Items { nodes: self.nodes, ids }
    }

    /// The callable, usually a [`Value::Global`].
    pub fn callable(self) -> Item<'p> {
        self.item(self.parts.callable)
    }

    /// The positional arguments, a [`Value::Tuple`].
    pub fn args(self) -> Item<'p> {
        self.item(self.parts.args)
    }

    /// The keyword arguments, if any.
    pub fn kwargs(self) -> Option<Item<'p>> {
        self.parts.kwargs.map(|id| self.item(id))
    }

    /// The state that `__setstate__` would receive, if any.
    pub fn state(self) -> Option<Item<'p>> {
        self.parts.state.map(|id| self.item(id))
    }

    /// The elements that would be appended to the result.
    pub fn items(self) -> Items<'p> {
        self.row(&self.parts.items)
    }

    /// The items that would be set in the result.
    pub fn pairs(self) -> Pairs<'p> {
        Pairs(self.row(&self.parts.pairs))
    }
}

// Shallow, because a pickle may contain itself.
impl fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind())
    }
}

impl fmt::Debug for Items<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} items", self.len())
    }
}

impl fmt::Debug for Pairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pairs", self.len())
    }
}

impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of {}", self.callable().kind())
    }
}
