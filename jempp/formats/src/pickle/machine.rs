//! The stack machine that executes a pickle's instructions.
//!
//! Invariant: each byte read adds at most one entry of bounded size to each of the collections here, which bounds
//! memory.

use super::fault::Fault;
use super::node::{EMPTY, FALSE, Id, NONE, Node, Nodes, TRUE};
use super::text;
use std::collections::HashMap;

pub(super) type Done<T = ()> = Result<T, Fault>;

/// Executes the pickle at the start of `bytes`, of at most `most` instructions. Returns its objects, the number of the
/// root and the pickle's length in bytes.
pub(super) fn run(bytes: &[u8], most: usize) -> Done<(Nodes<'_>, Id, usize)> {
    let mut m = Machine {
        bytes,
        at: 0,
        op: 0,
        nodes: Nodes::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        sparse: HashMap::new(),
    };
    for count in 0.. {
        m.op = m.at;
        if count == most {
            return m.fail(format!("more than {most} instructions"));
        }
        let op = m.byte()?;
        if op == b'.' {
            break;
        }
        m.step(op)?;
    }
    if let (&[root], []) = (m.stack.as_slice(), m.marks.as_slice()) {
        return Ok((m.nodes, root, m.at));
    }
    m.fail(format!("it ends with {} objects instead of one", m.stack.len()))
}

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    /// Offset of the next byte.
    at: usize,
    /// Offset of the current instruction.
    op: usize,
    pub(super) nodes: Nodes<'a>,
    stack: Vec<Id>,
    /// Heights of the stack at the MARK instructions that are open.
    marks: Vec<Id>,
    /// Memoised objects: those with consecutive indices from 0, which are all in ordinary pickles, and the others.
    memo: Vec<Id>,
    sparse: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    pub(super) fn fail<T>(&self, why: impl Into<String>) -> Done<T> {
        Err(Fault { offset: self.op, why: why.into() })
    }

    /// Executes one instruction.
    fn step(&mut self, op: u8) -> Done {
        match op {
            0x80 => {
                let version = self.byte()?;
                if version > 5 {
                    return self.fail(format!("protocol {version} is not known; 0 to 5 are"));
                }
                Ok(())
            }
            // FRAME: the length of a frame, which only readers of streams need.
            0x95 => self.take(8).map(|_| ()),
            b'N' => self.push(NONE),
            0x88 => self.push(TRUE),
            0x89 => self.push(FALSE),
            b'I' | b'L' | b'F' | b'S' | b'V' => self.line_value(op),
            b'J' | b'K' | b'M' | b'G' | 0x8a | 0x8b => self.number(op),
            b'U' | b'T' | b'C' | b'B' | 0x8e | 0x96 | b'X' | 0x8c | 0x8d => self.string(op),
            b'(' | b'0' | b'1' | b'2' => self.shuffle(op),
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.memory(op),
            b']' | b'}' | b')' | 0x8f | b'l' | b'd' | b't' | 0x85..=0x87 | 0x91 => self.container(op),
            b'a' | b'e' | 0x90 | b's' | b'u' => self.fill(op),
            b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'o' | b'i' | b'b' | b'P' | b'Q' => self.object(op),
            0x82..=0x84 => self.fail("an extension code, whose meaning is known to one program only"),
            0x97 | 0x98 => self.fail("its data are in out-of-band buffers, which are not in the file"),
            _ => self.fail(format!("{op:#04x} is not an instruction")),
        }
    }

    fn byte(&mut self) -> Done<u8> {
        self.take(1).map(|b| b[0])
    }

    /// The next `n` bytes.
    fn take(&mut self, n: u64) -> Done<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match usize::try_from(n).ok().and_then(|n| rest.get(..n)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => self.fail(format!("it ends early: {n} bytes wanted, {} left", rest.len())),
        }
    }

    /// The next `N` bytes as a little-endian integer.
    fn word<const N: usize>(&mut self) -> Done<u64> {
        Ok(self.take(N as u64)?.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)))
    }

    /// The bytes up to the end of the line, without the newline.
    pub(super) fn line(&mut self) -> Done<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(n) = rest.iter().position(|b| *b == b'\n') else {
            return self.fail("it ends early: a line without a newline");
        };
        self.at += n + 1;
        Ok(&rest[..n])
    }

    fn push(&mut self, id: Id) -> Done {
        self.stack.push(id);
        Ok(())
    }

    pub(super) fn add(&mut self, node: Node<'a>) -> Done<Id> {
        match self.nodes.add(node) {
            Some(id) => Ok(id),
            None => self.fail("it has too many objects"),
        }
    }

    pub(super) fn push_node(&mut self, node: Node<'a>) -> Done {
        let id = self.add(node)?;
        self.push(id)
    }

    /// The height below which the stack must not be popped: that of the last mark.
    fn floor(&self) -> usize {
        self.marks.last().map_or(0, |m| *m as usize)
    }

    pub(super) fn pop(&mut self) -> Done<Id> {
        match self.stack.pop() {
            Some(id) if self.stack.len() >= self.floor() => Ok(id),
            _ => self.fail("it pops an object from an empty stack"),
        }
    }

    pub(super) fn top(&self) -> Done<Id> {
        match self.stack.last() {
            Some(id) if self.stack.len() > self.floor() => Ok(*id),
            _ => self.fail("it needs an object on an empty stack"),
        }
    }

    /// Pops the last mark and the objects above it.
    pub(super) fn pop_mark(&mut self) -> Done<Vec<Id>> {
        match self.marks.pop() {
            Some(m) => Ok(self.stack.drain(m as usize..).collect()),
            None => self.fail("it needs a mark that was not set"),
        }
    }

    fn line_value(&mut self, op: u8) -> Done {
        let line = self.line()?;
        let node = match op {
            b'I' if line == b"00" => Some(Node::Bool(false)),
            b'I' if line == b"01" => Some(Node::Bool(true)),
            b'I' => text::long(line).map(integer),
            b'L' => text::long(line.strip_suffix(b"L").unwrap_or(line)).map(integer),
            b'F' => text::float(line).map(Node::Float),
            b'S' => text::literal(line).map(|b| Node::OwnBytes(b.into())),
            _ => text::unicode(line).map(|s| Node::OwnStr(s.into())),
        };
        match node {
            Some(node) => self.push_node(node),
            None => self.fail("a number or string that cannot be parsed"),
        }
    }

    fn number(&mut self, op: u8) -> Done {
        let node = match op {
            b'J' => Node::Int(i64::from(self.word::<4>()? as i32)),
            b'K' => Node::Int(self.word::<1>()? as i64),
            b'M' => Node::Int(self.word::<2>()? as i64),
            b'G' => Node::Float(f64::from_bits(self.word::<8>()?.swap_bytes())),
            _ => {
                let n = if op == 0x8a { self.word::<1>()? } else { self.word::<4>()? };
                let bytes = self.take(n)?;
                match bytes {
                    [] => Node::Int(0),
                    [.., last] if bytes.len() <= 8 => {
                        let fill = if *last >= 0x80 { -1 } else { 0 };
                        Node::Int(bytes.iter().rev().fold(fill, |v: i64, b| v << 8 | i64::from(*b)))
                    }
                    _ => Node::Long(bytes),
                }
            }
        };
        self.push_node(node)
    }

    fn string(&mut self, op: u8) -> Done {
        let n = match op {
            b'U' | b'C' | 0x8c => self.word::<1>()?,
            b'T' | b'B' | b'X' => self.word::<4>()?,
            _ => self.word::<8>()?,
        };
        let bytes = self.take(n)?;
        if !matches!(op, b'X' | 0x8c | 0x8d) {
            return self.push_node(Node::Bytes(bytes));
        }
        match std::str::from_utf8(bytes) {
            Ok(s) => self.push_node(Node::Str(s)),
            Err(_) => self.fail("a string that is not UTF-8"),
        }
    }

    fn shuffle(&mut self, op: u8) -> Done {
        match op {
            // The stack holds fewer objects than bytes were read, and `add` fails beyond 2³² objects.
            b'(' => self.marks.push(self.stack.len() as Id),
            b'1' => drop(self.pop_mark()?),
            b'2' => return self.top().and_then(|id| self.push(id)),
            // CPython's POP removes a mark if that is on top.
            _ if self.stack.len() == self.floor() && !self.marks.is_empty() => drop(self.marks.pop()),
            _ => drop(self.pop()?),
        }
        Ok(())
    }

    fn memory(&mut self, op: u8) -> Done {
        let index = match op {
            b'q' | b'h' => self.word::<1>()? as u32,
            b'r' | b'j' => self.word::<4>()? as u32,
            0x94 => (self.memo.len() + self.sparse.len()) as u32,
            _ => {
                let line = self.line()?;
                match text::long(line).and_then(|i| u32::try_from(i).ok()) {
                    Some(i) => i,
                    None => return self.fail("a memo index that cannot be parsed"),
                }
            }
        };
        if matches!(op, b'g' | b'h' | b'j') {
            let known = self.memo.get(index as usize).or_else(|| self.sparse.get(&index));
            return match known.copied() {
                Some(id) => self.push(id),
                None => self.fail(format!("memo entry {index} is read before it is written")),
            };
        }
        let id = self.top()?;
        if let Some(place) = self.memo.get_mut(index as usize) {
            *place = id;
        } else if self.memo.len() == index as usize {
            self.sparse.remove(&index);
            self.memo.push(id);
        } else {
            self.sparse.insert(index, id);
        }
        Ok(())
    }

    fn container(&mut self, op: u8) -> Done {
        let node = match op {
            b')' => return self.push(EMPTY),
            b']' => Node::List(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            0x8f => Node::Set(Vec::new()),
            b'l' => Node::List(self.pop_mark()?),
            b'd' => Node::Dict(self.pop_pairs()?),
            0x91 => Node::Set(self.pop_mark()?),
            b't' => Node::Tuple(self.pop_mark()?.into()),
            _ => {
                let n = usize::from(op - 0x84);
                let mut ids = vec![NONE; n];
                for place in ids.iter_mut().rev() {
                    *place = self.pop()?;
                }
                Node::Tuple(ids.into())
            }
        };
        self.push_node(node)
    }

    /// Pops keys and values, alternating, down to the last mark.
    fn pop_pairs(&mut self) -> Done<Vec<Id>> {
        let ids = self.pop_mark()?;
        if ids.len() % 2 == 0 { Ok(ids) } else { self.fail("a key without a value") }
    }

    /// Moves objects from the stack into the container below them.
    fn fill(&mut self, op: u8) -> Done {
        let new = match op {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            b'u' => self.pop_pairs()?,
            _ => self.pop_mark()?,
        };
        let target = self.top()?;
        let place = match (op, self.nodes.get_mut(target)) {
            (b'a' | b'e', Some(Node::List(items))) | (0x90, Some(Node::Set(items))) => Some(items),
            (b's' | b'u', Some(Node::Dict(pairs))) => Some(pairs),
            (b'a' | b'e' | 0x90, Some(Node::Object(parts))) => Some(&mut parts.items),
            (b's' | b'u', Some(Node::Object(parts))) => Some(&mut parts.pairs),
            _ => None,
        };
        match place {
            Some(place) => {
                place.extend(new);
                Ok(())
            }
            None => self.fail("it adds elements to an object that is not a container"),
        }
    }
}

fn integer<'a>(i: i128) -> Node<'a> {
    match i64::try_from(i) {
        Ok(i) => Node::Int(i),
        Err(_) => Node::OwnLong(i.to_le_bytes().into()),
    }
}
