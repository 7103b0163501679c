//! What the library has to say beside its answers.
//!
//! What must hold: the host's function is called without a lock of this file held, so that it may set another.

use crate::call::quietly;
use core::ffi::{c_char, c_void};
use core::fmt::{Debug, Write};
use std::ffi::CString;
use std::sync::{Once, PoisonError, RwLock};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

type Callback = extern "C" fn(level: i32, message: *const c_char, user: *mut c_void);

/// The host's function and the address that it wants back, which is only carried.
#[derive(Clone, Copy)]
struct Listener(Callback, usize);

static LISTENER: RwLock<Option<Listener>> = RwLock::new(None);

/// Sets who hears what the library has to say, such as a damaged checkpoint that was passed over.
///
/// callback: is called with a level (1 error, 2 warning, 3 information), a message in UTF-8 that lives during the call, and
/// `user`; NULL turns it off, as it is at first. It may be called from any thread that calls the library, also at once from
/// several, and from another thread shortly after it was replaced. user: is passed on. Any thread; cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_set_log_callback(
    callback: Option<extern "C" fn(level: i32, message: *const c_char, user: *mut c_void)>,
    user: *mut c_void,
) {
    static ONCE: Once = Once::new();
    quietly(|| {
        if callback.is_some() {
            // Where a Rust host has a subscriber of its own in the same copy of `tracing`, that one hears it already.
            ONCE.call_once(|| drop(tracing::subscriber::set_global_default(Ears)));
        }
        let listener = callback.map(|c| Listener(c, user.expose_provenance()));
        *LISTENER.write().unwrap_or_else(PoisonError::into_inner) = listener;
    });
}

/// Hears events and passes them on.
struct Ears;

impl Subscriber for Ears {
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

/// An event's message and fields as a line.
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
