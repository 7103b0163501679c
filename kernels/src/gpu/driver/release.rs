//! When what belongs to the driver is given back: never while work is captured.
//!
//! Freeing memory on a captured stream, waiting for one, or for the context that it belongs to, ends a capture with an
//! error, whichever thread does it. Every `Gpu` of a device has the same context, CUDA's primary one, so captures are
//! counted for the whole process.
//!
//! What must hold: nothing is given back from before a capture begins until it has ended; what is dropped meanwhile is
//! given back then, in the order in which it was dropped.

use std::any::Any;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The captures in progress, and what was dropped since the first of them began.
struct Captures {
    running: usize,
    dropped: Vec<Box<dyn Any + Send>>,
}

static CAPTURES: Mutex<Captures> = Mutex::new(Captures { running: 0, dropped: Vec::new() });

fn captures() -> MutexGuard<'static, Captures> {
    CAPTURES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A capture in progress: while it lives, nothing is given back.
pub(super) struct Capturing(());

impl Capturing {
    /// Waits for what is being given back at this moment.
    pub(super) fn begin() -> Self {
        captures().running += 1;
        Self(())
    }
}

impl Drop for Capturing {
    fn drop(&mut self) {
        let mut captures = captures();
        captures.running -= 1;
        if captures.running == 0 {
            // With the lock held, so that no capture begins meanwhile.
            captures.dropped.drain(..).for_each(drop);
        }
    }
}

/// A value whose `Drop` calls the driver, or a library that does. While work is captured, dropping it only puts it
/// aside; it is dropped when the capture has ended. It must not contain another `Deferred`.
#[derive(Debug)]
pub(in crate::gpu) struct Deferred<T: Send + 'static>(ManuallyDrop<T>);

impl<T: Send + 'static> Deferred<T> {
    pub(in crate::gpu) fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }
}

impl<T: Send + 'static> Deref for Deferred<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Send + 'static> std::ops::DerefMut for Deferred<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Send + 'static> Drop for Deferred<T> {
    fn drop(&mut self) {
        // SAFETY: the value is taken once, here, and not used again.
        let value = unsafe { ManuallyDrop::take(&mut self.0) };
        let mut captures = captures();
        if captures.running > 0 {
            captures.dropped.push(Box::new(value));
        } else {
            // With the lock held, so that no capture begins meanwhile.
            drop(value);
        }
    }
}
