//! The instructions that name and construct objects. Nothing is constructed: the call is recorded.

use super::machine::{Done, Machine};
use super::node::{EMPTY, Id, Node, Parts};

impl<'a> Machine<'a> {
    /// Executes an instruction that names or constructs an object.
    pub(super) fn object(&mut self, op: u8) -> Done {
        let node = match op {
            b'c' => self.global()?,
            0x93 => {
                let name = self.pop()?;
                Node::Global(self.pop()?, name)
            }
            b'R' | 0x81 => {
                let args = self.pop()?;
                self.call(args, None)?
            }
            0x92 => {
                let kwargs = self.pop()?;
                let args = self.pop()?;
                self.call(args, Some(kwargs))?
            }
            b'i' => {
                let class = self.global()?;
                let class = self.add(class)?;
                let args = self.pop_mark()?;
                self.instance(class, args)?
            }
            b'o' => {
                let mut args = self.pop_mark()?;
                if args.is_empty() {
                    return self.fail("an instance without a class");
                }
                let class = args.remove(0);
                self.instance(class, args)?
            }
            b'b' => return self.build(),
            b'P' => {
                let Ok(name) = std::str::from_utf8(self.line()?) else {
                    return self.fail("a name that is not UTF-8");
                };
                Node::Persistent(self.add(Node::Str(name))?)
            }
            _ => Node::Persistent(self.pop()?),
        };
        if let Node::Global(module, name) = &node {
            let text = |id: Id| matches!(self.nodes.get(id), Node::Str(_) | Node::OwnStr(_) | Node::Bytes(_));
            if !text(*module) || !text(*name) {
                return self.fail("a module or name that is not a string");
            }
        }
        self.push_node(node)
    }

    /// Reads a module and a name from two lines.
    fn global(&mut self) -> Done<Node<'a>> {
        let mut part = || {
            let line = self.line()?;
            match std::str::from_utf8(line) {
                Ok(s) => self.add(Node::Str(s)),
                Err(_) => self.fail("a name that is not UTF-8"),
            }
        };
        Ok(Node::Global(part()?, part()?))
    }

    /// Records the call of the object on the stack.
    fn call(&mut self, args: Id, kwargs: Option<Id>) -> Done<Node<'a>> {
        let callable = self.pop()?;
        if !matches!(self.nodes.get(args), Node::Tuple(_)) {
            return self.fail("a call whose arguments are not a tuple");
        }
        Ok(parts(callable, args, kwargs))
    }

    fn instance(&mut self, class: Id, args: Vec<Id>) -> Done<Node<'a>> {
        let args = if args.is_empty() { EMPTY } else { self.add(Node::Tuple(args.into()))? };
        Ok(parts(class, args, None))
    }

    fn build(&mut self) -> Done {
        let state = self.pop()?;
        let target = self.top()?;
        match self.nodes.get_mut(target) {
            Some(Node::Object(parts)) if parts.state.is_none() => {
                parts.state = Some(state);
                Ok(())
            }
            Some(Node::Object(_)) => self.fail("an object's state is set twice"),
            _ => self.fail("it sets the state of an object that has none"),
        }
    }
}

fn parts<'a>(callable: Id, args: Id, kwargs: Option<Id>) -> Node<'a> {
    let (items, pairs) = (Vec::new(), Vec::new());
    Node::Object(Box::new(Parts { callable, args, kwargs, state: None, items, pairs }))
}
