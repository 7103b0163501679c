//! What programs spend their time on: node by node, while it is asked for.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What nodes of one kind took together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// How many ran.
    pub runs: u64,
    /// Seconds; on a GPU between events before and after each.
    pub seconds: f64,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written at least once.
    pub bytes: u64,
}

/// Sums by the nodes' names; there while they are asked for.
#[derive(Debug, Default)]
pub struct Profile(Mutex<Option<BTreeMap<&'static str, Spent>>>);

impl Profile {
    fn all(&self) -> MutexGuard<'_, Option<BTreeMap<&'static str, Spent>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on each node is timed. On a GPU programs then run node by node, never as graphs: slower than they are.
    pub fn begin(&self) {
        *self.all() = Some(BTreeMap::new());
    }

    /// Ends what [`Profile::begin`] began: what nodes of each name took, in order of the names.
    pub fn end(&self) -> Vec<(&'static str, Spent)> {
        self.all().take().unwrap_or_default().into_iter().collect()
    }

    /// Whether nodes are to be timed.
    pub fn is_on(&self) -> bool {
        self.all().is_some()
    }

    /// Counts a node in.
    pub fn add(&self, name: &'static str, seconds: f64, flops: u64, bytes: u64) {
        if let Some(all) = self.all().as_mut() {
            let s = all.entry(name).or_default();
            *s = Spent {
                runs: s.runs + 1,
                seconds: s.seconds + seconds,
                flops: s.flops + flops,
                bytes: s.bytes + bytes,
            };
        }
    }
}
