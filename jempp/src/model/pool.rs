//! The programs of a model, lent to one call at a time.
//!
//! Invariant: at most as many sets exist as the limit says, so memory is bounded whatever the number of callers.

use engine::{Plan, Var};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

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

/// As many sets of programs as calls may compute at once: who finds none free waits, which costs nothing while the others
/// keep the device busy. A set that failed on the way is as good as before: each run overwrites all.
#[derive(Debug)]
pub(super) struct Pool {
    sets: Vec<Mutex<Programs>>,
    /// Held while looking for a free set before waiting, and taken when one is given back: so no return is missed.
    gate: Mutex<()>,
    returned: Condvar,
}

/// Programs on loan, given back when dropped.
pub(super) struct Loan<'a>(&'a Pool, Option<MutexGuard<'a, Programs>>);

fn lock(gate: &Mutex<()>) -> MutexGuard<'_, ()> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Of at most `limit` sets, made when first used.
    pub fn new(limit: usize) -> Self {
        let sets = (0..limit.max(1)).map(|_| Mutex::default()).collect();
        Self { sets, gate: Mutex::new(()), returned: Condvar::new() }
    }

    fn free(&self) -> Option<MutexGuard<'_, Programs>> {
        self.sets.iter().find_map(|set| match set.try_lock() {
            Ok(programs) => Some(programs),
            Err(TryLockError::Poisoned(e)) => Some(e.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        })
    }

    /// Programs for one call, waiting for them if all are on loan.
    pub fn borrow(&self) -> Loan<'_> {
        if let Some(programs) = self.free() {
            return Loan(self, Some(programs));
        }
        let mut gate = lock(&self.gate);
        loop {
            if let Some(programs) = self.free() {
                return Loan(self, Some(programs));
            }
            gate = self.returned.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Loan<'_> {
    /// The programs, while they are on loan.
    pub fn programs(&mut self) -> Option<&mut Programs> {
        self.1.as_deref_mut()
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        self.1 = None;
        drop(lock(&self.0.gate));
        self.0.returned.notify_one();
    }
}
