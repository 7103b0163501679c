//! What programs spend their time on: node by node, while it is asked for.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::context::Gpu;

/// What nodes of one kind took together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// How many ran.
    pub runs: u64,
    /// Seconds on the device, between events before and after each.
    pub seconds: f64,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written at least once.
    pub bytes: u64,
}

/// `Some` while it is asked for.
#[derive(Default)]
pub(crate) struct Profile(Mutex<Option<BTreeMap<&'static str, Spent>>>);

impl Gpu {
    fn profile(&self) -> std::sync::MutexGuard<'_, Option<BTreeMap<&'static str, Spent>>> {
        self.handles().profile.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on programs run node by node, never as graphs, and each node is timed. Slower than programs are.
    pub fn begin_profile(&self) {
        *self.profile() = Some(BTreeMap::new());
    }

    /// Ends what [`Gpu::begin_profile`] began: what nodes of each name took, in order of the names.
    pub fn end_profile(&self) -> Vec<(&'static str, Spent)> {
        self.profile().take().unwrap_or_default().into_iter().collect()
    }

    /// Whether nodes are to be timed.
    pub fn profiles(&self) -> bool {
        self.profile().is_some()
    }

    /// Counts a node in.
    pub fn spent(&self, name: &'static str, seconds: f64, flops: u64, bytes: u64) {
        if let Some(all) = self.profile().as_mut() {
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
