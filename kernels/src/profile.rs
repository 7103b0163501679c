//! Profiling: the time that programs spend, by kind of node.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The total cost of all nodes of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Number of runs.
    pub runs: u64,
    /// Seconds; on a GPU measured by events before and after each node.
    pub seconds: f64,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written at least once.
    pub bytes: u64,
}

/// Totals by the nodes' names, collected while profiling is on.
#[derive(Debug, Default)]
pub struct Profile(Mutex<Option<BTreeMap<&'static str, Spent>>>);

impl Profile {
    fn all(&self) -> MutexGuard<'_, Option<BTreeMap<&'static str, Spent>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns profiling on. On a GPU, programs then run node by node instead of as captured graphs, which is slower.
    pub fn begin(&self) {
        *self.all() = Some(BTreeMap::new());
    }

    /// Turns profiling off and returns the totals, sorted by name.
    pub fn end(&self) -> Vec<(&'static str, Spent)> {
        self.all().take().unwrap_or_default().into_iter().collect()
    }

    /// Whether profiling is on.
    pub fn is_on(&self) -> bool {
        self.all().is_some()
    }

    /// Adds one run of a node.
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
