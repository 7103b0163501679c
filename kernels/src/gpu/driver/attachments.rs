//! Values that belong to an open device and are made at first use: loaded modules, library handles, choices.
//!
//! What must hold: there is one value of each type; a value stays where it is until the device is closed. The driver
//! knows none of the types, so that the rooms that attach something depend on it and not the other way round.

use std::any::Any;
use std::sync::OnceLock;

/// One value per type, in a list that only grows.
#[derive(Default)]
pub(super) struct Attachments {
    first: OnceLock<Box<Node>>,
}

struct Node {
    value: Box<dyn Any + Send + Sync>,
    next: OnceLock<Box<Node>>,
}

impl Attachments {
    /// The value of type `T`, made now if there is none yet.
    pub(super) fn get<T: Any + Default + Send + Sync>(&self) -> &T {
        let mut link = &self.first;
        loop {
            // Another thread may append a value of another type first; the walk then goes on past it.
            let node =
                link.get_or_init(|| Box::new(Node { value: Box::<T>::default(), next: OnceLock::new() }));
            if let Some(value) = node.value.downcast_ref() {
                return value;
            }
            link = &node.next;
        }
    }
}

#[cfg(test)]
mod tests;
