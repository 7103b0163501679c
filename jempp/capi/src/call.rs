//! The wrapper around the body of every function: catches panics and records error messages.
//!
//! Invariants: after a panic each handle that the call had looked up is poisoned; the panic's message goes to
//! `jempp_last_error` and nowhere else.

use crate::handles::{Handle, Object, Poison, find};
use crate::status::{Fault, JEMPP_ERR_INTERNAL, JEMPP_OK, Outcome, jempp_status, remember};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};

/// A call in progress.
#[derive(Default)]
pub(crate) struct Call {
    touched: RefCell<Vec<Poison>>,
}

impl Call {
    /// The object behind a handle; a panic later in this call poisons it.
    pub(crate) fn find<H: Handle>(&self, handle: *const H) -> Outcome<Arc<Object<H::Body>>> {
        let object = find(handle)?;
        self.touched.borrow_mut().push(Arc::clone(&object.poison));
        #[cfg(test)]
        assert!(!INJECT.replace(false), "an injected panic");
        Ok(object)
    }
}

#[cfg(test)]
thread_local! {
    /// Makes the next lookup of a handle panic.
    pub(crate) static INJECT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

thread_local! {
    /// Nesting depth of calls on this thread, and the message of the last panic in one.
    static INSIDE: RefCell<(u32, String)> = const { RefCell::new((0, String::new())) };
}

/// Installs a panic hook that keeps panics of this library's calls and threads off standard error. Other panics go to
/// the hook that was installed before.
fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let ours = INSIDE.try_with(|inside| match inside.try_borrow_mut() {
                Ok(mut inside) if inside.0 > 0 => {
                    inside.1 = info.to_string();
                    true
                }
                _ => false,
            });
            let worker = std::thread::current().name().is_some_and(|n| n.starts_with("jempp-"));
            if !ours.unwrap_or(false) && !worker {
                before(info);
            }
        }));
    });
}

/// Runs the body of a function that returns a status.
pub(crate) fn call(body: impl FnOnce(&Call) -> Outcome) -> jempp_status {
    install_panic_hook();
    let call = Call::default();
    let _ = INSIDE.try_with(|i| i.borrow_mut().0 += 1);
    let done = catch_unwind(AssertUnwindSafe(|| body(&call)));
    let message = INSIDE.try_with(|i| {
        let mut i = i.borrow_mut();
        i.0 -= 1;
        core::mem::take(&mut i.1)
    });
    match done {
        Ok(Ok(())) => {
            remember("");
            JEMPP_OK
        }
        Ok(Err(Fault { status, message })) => {
            remember(&message);
            status
        }
        Err(payload) => {
            call.touched.borrow().iter().for_each(|p| p.store(true, Ordering::Release));
            // The payload of a panic may itself panic when dropped.
            core::mem::forget(payload);
            remember(&format!("internal error: {}", message.unwrap_or_default()));
            JEMPP_ERR_INTERNAL
        }
    }
}

/// Runs the body of a function that has no status; a panic is swallowed.
pub(crate) fn call_infallible(body: impl FnOnce()) {
    install_panic_hook();
    let _ = INSIDE.try_with(|i| i.borrow_mut().0 += 1);
    if let Err(payload) = catch_unwind(AssertUnwindSafe(body)) {
        core::mem::forget(payload);
    }
    let _ = INSIDE.try_with(|i| {
        let mut i = i.borrow_mut();
        i.0 -= 1;
        i.1.clear();
    });
}
