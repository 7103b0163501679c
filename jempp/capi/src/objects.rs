//! The Rust objects behind handles that are not types of jempp itself: contexts and trainers with their locks.
//!
//! Invariant: one call at a time uses a context or changes a trainer; others get JEMPP_ERR_BUSY instead of waiting.

use crate::status::{Fault, JEMPP_ERR_BUSY, Outcome};
use jempp::Trainer;
use jempp::engine::Device;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

/// The object behind a `jempp_context`.
#[derive(Debug)]
pub(crate) struct Context {
    pub device: Device,
    pub seed: u64,
    in_use: Mutex<()>,
}

impl Context {
    pub(crate) fn new(device: Device, seed: u64) -> Self {
        Self { device, seed, in_use: Mutex::new(()) }
    }

    /// Reserves the context for one call.
    pub(crate) fn acquire(&self) -> Outcome<MutexGuard<'_, ()>> {
        match self.in_use.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(e)) => Ok(e.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(Fault::new(JEMPP_ERR_BUSY, "another thread is using this context; wait for its call"))
            }
        }
    }
}

/// The object behind a `jempp_trainer`.
#[derive(Debug)]
pub(crate) struct SharedTrainer {
    trainer: Mutex<Trainer>,
    /// Whether a call that changes the trainer is in progress.
    changing: AtomicBool,
}

/// A trainer locked by a call.
pub(crate) struct TrainerGuard<'a> {
    pub trainer: MutexGuard<'a, Trainer>,
    changing: Option<&'a AtomicBool>,
}

impl Drop for TrainerGuard<'_> {
    fn drop(&mut self) {
        if let Some(changing) = self.changing {
            changing.store(false, Ordering::Release);
        }
    }
}

fn busy() -> Fault {
    Fault::new(JEMPP_ERR_BUSY, "another thread is using this trainer; wait for its call")
}

impl SharedTrainer {
    pub(crate) fn new(trainer: Trainer) -> Self {
        Self { trainer: Mutex::new(trainer), changing: AtomicBool::new(false) }
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Trainer>> {
        match self.trainer.try_lock() {
            Ok(t) => Some(t),
            // The trainer that a panic left behind is never used, as its handle is poisoned.
            Err(TryLockError::Poisoned(e)) => Some(e.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Locks the trainer for a call that changes it; BUSY if any other call uses it.
    pub(crate) fn lock_exclusive(&self) -> Outcome<TrainerGuard<'_>> {
        let trainer = self.try_lock().ok_or_else(busy)?;
        self.changing.store(true, Ordering::Release);
        Ok(TrainerGuard { trainer, changing: Some(&self.changing) })
    }

    /// Locks the trainer for a call that does not change it: waits for others of this kind; BUSY if a call is changing
    /// it.
    pub(crate) fn lock_shared(&self) -> Outcome<TrainerGuard<'_>> {
        loop {
            if let Some(trainer) = self.try_lock() {
                return Ok(TrainerGuard { trainer, changing: None });
            }
            if self.changing.load(Ordering::Acquire) {
                return Err(busy());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
