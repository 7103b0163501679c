//! The bytes of images, in memory or in a file that is mapped.

use engine::Mmap;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes that do not change.
#[derive(Clone, Debug)]
pub struct Bytes(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Own(Arc<Vec<u8>>),
    /// A map, and where in it they begin.
    Mapped(Arc<Mmap>, usize),
}

impl Bytes {
    /// Those of `map` from `start` on; none if it is shorter.
    pub(super) fn mapped(map: Mmap, start: usize) -> Self {
        Self(Kind::Mapped(Arc::new(map), start))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Kind::Own(Arc::new(bytes)))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kind::Own(bytes) => bytes,
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
