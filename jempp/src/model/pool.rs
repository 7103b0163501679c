//! A bounded pool of a model's compiled programs; each set is used by one call at a time.
//!
//! Invariant: there are never more sets than the limit, so memory is bounded whatever the number of callers.

use engine::{Plan, Var};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

/// The outputs of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Want {
    Scores,
    Features,
    GradDensity,
    GradLabel,
    GradLoss,
    GradCotangent,
}

#[derive(Debug)]
pub(super) struct Program {
    pub plan: Plan,
    pub x: Var,
    /// Input of labels, or of the gradient with respect to the logits.
    pub labels: Option<Var>,
    pub outputs: Vec<Var>,
}

/// Programs of one caller, by number of images and output.
pub(super) type Programs = BTreeMap<(usize, Want), Program>;

/// Sets of programs, one for each call that may compute at the same time. A call that finds none free waits, which
/// costs no throughput while the others keep the device busy. A set can be reused after a failed run, as each run
/// overwrites everything.
#[derive(Debug)]
pub(super) struct Pool {
    sets: Vec<Mutex<Programs>>,
    /// Held from looking for a free set to waiting, and taken when one is returned, so that no wake-up is lost.
    gate: Mutex<()>,
    returned: Condvar,
}

/// A borrowed set of programs, returned when dropped.
pub(super) struct ProgramGuard<'a>(&'a Pool, Option<MutexGuard<'a, Programs>>);

fn lock(gate: &Mutex<()>) -> MutexGuard<'_, ()> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool of at most `limit` sets, whose programs are compiled when first used.
    pub(super) fn new(limit: usize) -> Self {
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

    /// Borrows a set for one call, waiting for one if all are in use.
    pub(super) fn borrow(&self) -> ProgramGuard<'_> {
        if let Some(programs) = self.free() {
            return ProgramGuard(self, Some(programs));
        }
        let mut gate = lock(&self.gate);
        loop {
            if let Some(programs) = self.free() {
                return ProgramGuard(self, Some(programs));
            }
            gate = self.returned.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl ProgramGuard<'_> {
    /// The programs, until the guard is dropped.
    pub(super) fn programs(&mut self) -> Option<&mut Programs> {
        self.1.as_deref_mut()
    }
}

impl Drop for ProgramGuard<'_> {
    fn drop(&mut self) {
        self.1 = None;
        drop(lock(&self.0.gate));
        self.0.returned.notify_one();
    }
}
