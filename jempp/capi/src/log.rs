//! Log messages, passed to a callback of the host program.
//!
//! Invariant: no lock of this file is held while the callback runs, so that it may install another one.

use crate::call::call_infallible;
use core::ffi::{c_char, c_void};
use core::fmt::{Debug, Write};
use std::ffi::CString;
use std::sync::{Once, PoisonError, RwLock};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

type Callback = extern "C" fn(level: i32, message: *const c_char, user: *mut c_void);

/// The callback and its `user` pointer, which is stored as an address and never dereferenced.
#[derive(Clone, Copy)]
struct Listener(Callback, usize);

static LISTENER: RwLock<Option<Listener>> = RwLock::new(None);

/// Sets the callback that receives log messages, such as a warning that a damaged checkpoint was skipped.
///
/// callback: is called with a level (1 error, 2 warning, 3 information), a UTF-8 message that is valid during the call,
/// and `user`; NULL, the initial value, turns logging off. It may be called from any thread that calls the library,
/// from several at the same time, and for a short time after it was replaced. user: passed to the callback. Any thread;
/// cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_set_log_callback(
    callback: Option<extern "C" fn(level: i32, message: *const c_char, user: *mut c_void)>,
    user: *mut c_void,
) {
    static ONCE: Once = Once::new();
    call_infallible(|| {
        if callback.is_some() {
            // Fails if a Rust host has its own subscriber in the same copy of `tracing`, which then receives the
            // events.
            ONCE.call_once(|| drop(tracing::subscriber::set_global_default(CallbackSubscriber)));
        }
        let listener = callback.map(|c| Listener(c, user.expose_provenance()));
        *LISTENER.write().unwrap_or_else(PoisonError::into_inner) = listener;
    });
}

/// Passes events on to the callback.
struct CallbackSubscriber;

impl Subscriber for CallbackSubscriber {
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        about.is_event() && *about.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let listener = *LISTENER.read().unwrap_or_else(PoisonError::into_inner);
        let Some(Listener(callback, user)) = listener else { return };
        let level = match *event.metadata().level() {
            Level::ERROR => 1,
            Level::WARN => 2,
            _ => 3,
        };
        let mut text = Text::default();
        event.record(&mut text);
        let message = CString::new(text.0.replace('\0', "\u{fffd}")).unwrap_or_default();
        callback(level, message.as_ptr(), core::ptr::with_exposed_provenance_mut(user));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event's message and fields as one line.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let gap = if self.0.is_empty() { "" } else { " " };
        let _ = match field.name() {
            "message" => write!(self.0, "{gap}{value:?}"),
            name => write!(self.0, "{gap}{name}={value:?}"),
        };
    }
}
