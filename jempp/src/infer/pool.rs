//! The programs of a model, lent to one call at a time.
//!
//! Invariant: at most as many sets exist as the limit says, so memory is bounded whatever the number of callers.

use engine::{Plan, Var};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

/// What a program computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Want {
    Scores,
    GradDensity,
    GradLabel,
    GradLoss,
    GradCotangent,
}

#[derive(Debug)]
pub(super) struct Program {
    pub plan: Plan,
    pub x: Var,
    /// Labels, or what the logits' gradient is.
    pub labels: Option<Var>,
    pub outputs: Vec<Var>,
}

/// Programs of one caller, by number of images.
pub(super) type Programs = BTreeMap<(usize, Want), Program>;

/// Programs that no call is using. There are never more sets than the device can make use of, and one: who finds none
/// waits, which costs nothing while the others keep the device busy.
#[derive(Debug, Default)]
pub(super) struct Pool {
    free: Mutex<(Vec<Programs>, usize)>,
    returned: Condvar,
}

/// Programs on loan, given back when dropped. Those that failed on the way are as good as before: each run overwrites all.
pub(super) struct Loan<'a>(&'a Pool, Programs);

impl Pool {
    /// Programs for one call, waiting for them if `limit` sets are on loan.
    pub fn borrow(&self, limit: usize) -> Loan<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(programs) = free.0.pop() {
                return Loan(self, programs);
            }
            if free.1 < limit {
                free.1 += 1;
                return Loan(self, Programs::new());
            }
            free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Loan<'_> {
    pub fn programs(&mut self) -> &mut Programs {
        &mut self.1
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let programs = core::mem::take(&mut self.1);
        self.0.free.lock().unwrap_or_else(PoisonError::into_inner).0.push(programs);
        self.0.returned.notify_one();
    }
}
