//! Image data in memory or in a memory-mapped file.

use engine::Mmap;
use std::ops::Deref;
use std::sync::Arc;

/// Immutable bytes that are cheap to clone.
#[derive(Clone, Debug)]
pub struct Bytes(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Owned(Arc<Vec<u8>>),
    /// A mapping and the offset of the data in it.
    Mapped(Arc<Mmap>, usize),
}

impl Bytes {
    /// The content of `map` from byte `start` on; empty if it is shorter.
    pub(super) fn mapped(map: Mmap, start: usize) -> Self {
        Self(Kind::Mapped(Arc::new(map), start))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Kind::Owned(Arc::new(bytes)))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kind::Owned(bytes) => bytes,
            Kind::Mapped(map, start) => map.get(*start..).unwrap_or_default(),
        }
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}
