//! Looking at what a pickle says.

use super::{Id, Node, Parts, Pickle};
use std::borrow::Cow;
use std::fmt;

/// What a pickled object is.
#[derive(Clone, Copy, Debug)]
pub enum Value<'p> {
    /// `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer of 64 bits.
    Int(i64),
    /// A longer integer: two's complement, lowest byte first.
    Long(&'p [u8]),
    /// A float.
    Float(f64),
    /// A string.
    Str(&'p str),
    /// `bytes`, a `bytearray` or a string of Python 2.
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
    /// What a call would have made.
    Object(Object<'p>),
    /// An object kept elsewhere, named by this.
    Persistent(Item<'p>),
}

/// An object within a pickle.
#[derive(Clone, Copy)]
pub struct Item<'p> {
    pickle: &'p Pickle<'p>,
    id: Id,
}

/// Objects in a row.
#[derive(Clone, Copy)]
pub struct Items<'p> {
    pickle: &'p Pickle<'p>,
    ids: &'p [Id],
}

/// Keys with values.
#[derive(Clone, Copy)]
pub struct Pairs<'p>(Items<'p>);

/// A call that was never made, and what would have been done to its result.
#[derive(Clone, Copy)]
pub struct Object<'p> {
    pickle: &'p Pickle<'p>,
    parts: &'p Parts,
}

impl<'p> Item<'p> {
    pub(super) fn new(pickle: &'p Pickle<'p>, id: Id) -> Self {
        Self { pickle, id }
    }

    fn at(self, id: Id) -> Self {
        Self { id, ..self }
    }

    fn items(self, ids: &'p [Id]) -> Items<'p> {
        Items { pickle: self.pickle, ids }
    }

    /// What it is. Costs nothing, however large it is.
    pub fn value(self) -> Value<'p> {
        match self.pickle.nodes.get(self.id) {
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
            Node::Object(parts) => Value::Object(Object { pickle: self.pickle, parts }),
            Node::Persistent(id) => Value::Persistent(self.at(*id)),
        }
    }

    /// What to call it in a message.
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
            Value::Persistent(_) => "an object kept elsewhere",
        };
        fixed.to_owned()
    }

    /// A string, also one of Python 2 if it is UTF-8.
    pub fn as_str(self) -> Option<&'p str> {
        match self.value() {
            Value::Str(s) => Some(s),
            Value::Bytes(b) => std::str::from_utf8(b).ok(),
            _ => None,
        }
    }

    /// An integer of 64 bits.
    pub fn as_int(self) -> Option<i64> {
        if let Value::Int(i) = self.value() { Some(i) } else { None }
    }

    /// Bytes, also in the forms that old protocols have for them: `_codecs.encode(s, 'latin1')`, `bytes()` and
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

    /// The pairs of a dict or a `collections.OrderedDict`.
    pub fn as_pairs(self) -> Option<Pairs<'p>> {
        match self.value() {
            Value::Dict(pairs) => Some(pairs),
            Value::Object(o) if self.call("collections", "OrderedDict").is_some() => Some(o.pairs()),
            _ => None,
        }
    }

    /// The elements of a list or tuple.
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

    /// The state it would have been given after the call.
    pub fn state(self) -> Option<Self> {
        if let Value::Object(object) = self.value() { object.state() } else { None }
    }
}

/// A name for a message, of bounded length and printable.
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
        self.ids.get(i).map(|id| Item::new(self.pickle, *id))
    }

    /// All, in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Item<'p>> + use<'p> {
        self.ids.iter().map(move |id| Item::new(self.pickle, *id))
    }
}

impl<'p> Pairs<'p> {
    /// Number of pairs; a key that comes twice counts twice.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> usize {
        self.0.len() / 2
    }

    /// All (key, value), in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = (Item<'p>, Item<'p>)> + use<'p> {
        let items = self.0;
        items.ids.chunks_exact(2).map(move |p| (Item::new(items.pickle, p[0]), Item::new(items.pickle, p[1])))
    }

    /// The value of a string as key; the last one, as in Python. Looks at every pair.
    pub fn get(self, key: &str) -> Option<Item<'p>> {
        self.iter().filter(|(k, _)| k.as_str() == Some(key)).last().map(|(_, v)| v)
    }
}

impl<'p> Object<'p> {
    fn item(self, id: Id) -> Item<'p> {
        Item::new(self.pickle, id)
    }

    fn row(self, ids: &'p [Id]) -> Items<'p> {
        Items { pickle: self.pickle, ids }
    }

    /// What would have been called, usually a [`Value::Global`].
    pub fn callable(self) -> Item<'p> {
        self.item(self.parts.callable)
    }

    /// With what: a [`Value::Tuple`].
    pub fn args(self) -> Item<'p> {
        self.item(self.parts.args)
    }

    /// With what by name, if anything.
    pub fn kwargs(self) -> Option<Item<'p>> {
        self.parts.kwargs.map(|id| self.item(id))
    }

    /// The state it would have been given.
    pub fn state(self) -> Option<Item<'p>> {
        self.parts.state.map(|id| self.item(id))
    }

    /// What would have been appended to it.
    pub fn items(self) -> Items<'p> {
        self.row(&self.parts.items)
    }

    /// What would have been entered into it.
    pub fn pairs(self) -> Pairs<'p> {
        Pairs(self.row(&self.parts.pairs))
    }
}

// Shallow, since a pickle may contain itself.
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
