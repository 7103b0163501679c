//! Status codes, and the message of each thread's last error.
//!
//! Invariants: the codes never change; a message lives until the next call on its thread.

use jempp::Error;
use jempp::engine;
use std::cell::RefCell;
use std::ffi::{CString, c_char};

/// Result of a function: one of the codes below, whose meanings never change.
pub type jempp_status = i32;

/// Success.
pub const JEMPP_OK: jempp_status = 0;
/// Invalid argument: NULL, a wrong length, a value out of range, a handle that was freed or never created.
pub const JEMPP_ERR_INVALID_ARGUMENT: jempp_status = 1;
/// A file operation failed, or there is no such file.
pub const JEMPP_ERR_IO: jempp_status = 2;
/// A file is damaged or in another format, or lacks what was requested.
pub const JEMPP_ERR_FORMAT: jempp_status = 3;
/// A compute device is missing or failed.
pub const JEMPP_ERR_DEVICE: jempp_status = 4;
/// Out of memory.
pub const JEMPP_ERR_OUT_OF_MEMORY: jempp_status = 5;
/// Another thread is using the handle.
pub const JEMPP_ERR_BUSY: jempp_status = 6;
/// Training diverged, or a sampling chain left the finite numbers.
pub const JEMPP_ERR_DIVERGED: jempp_status = 7;
/// Cancelled by a callback.
pub const JEMPP_ERR_CANCELLED: jempp_status = 8;
/// A bug in the library. The handles passed to the call are unusable from now on; free them.
pub const JEMPP_ERR_INTERNAL: jempp_status = 9;

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Fault {
    pub status: jempp_status,
    pub message: String,
}

/// The result of a call's body.
pub(crate) type Outcome<T = ()> = Result<T, Fault>;

impl Fault {
    pub(crate) fn new(status: jempp_status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(JEMPP_ERR_INVALID_ARGUMENT, message)
    }
}

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        let status = match &e {
            Error::Config(_) | Error::Data(_) | Error::Exists(_) => JEMPP_ERR_INVALID_ARGUMENT,
            Error::Format(_) => JEMPP_ERR_FORMAT,
            Error::Io { .. } => JEMPP_ERR_IO,
            Error::Device(_) | Error::Engine(engine::Error::Gpu(_)) => JEMPP_ERR_DEVICE,
            Error::OutOfMemory(_) | Error::Engine(engine::Error::OutOfMemory(_)) => JEMPP_ERR_OUT_OF_MEMORY,
            Error::Diverged(_) => JEMPP_ERR_DIVERGED,
            Error::Cancelled => JEMPP_ERR_CANCELLED,
            _ => JEMPP_ERR_INTERNAL,
        };
        Self::new(status, e.to_string())
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Stores a message for `jempp_last_error`; empty after a call that succeeded.
pub(crate) fn remember(message: &str) {
    // A NUL byte would end the message early.
    let text = CString::new(message.replace('\0', "\u{fffd}")).unwrap_or_default();
    let _ = LAST.try_with(|last| last.replace(text));
}

/// Error message of this thread's last call that returned a jempp_status: what went wrong and what to do about it, or
/// "" if the call returned JEMPP_OK.
///
/// Returns UTF-8, never NULL. The string is owned by the library and valid until this thread's next such call. Any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Name of a status, such as "JEMPP_ERR_BUSY", or "unknown status".
///
/// Returns a static string. Any thread; cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_status_string(status: jempp_status) -> *const c_char {
    let name = match status {
        JEMPP_OK => c"JEMPP_OK",
        JEMPP_ERR_INVALID_ARGUMENT => c"JEMPP_ERR_INVALID_ARGUMENT",
        JEMPP_ERR_IO => c"JEMPP_ERR_IO",
        JEMPP_ERR_FORMAT => c"JEMPP_ERR_FORMAT",
        JEMPP_ERR_DEVICE => c"JEMPP_ERR_DEVICE",
        JEMPP_ERR_OUT_OF_MEMORY => c"JEMPP_ERR_OUT_OF_MEMORY",
        JEMPP_ERR_BUSY => c"JEMPP_ERR_BUSY",
        JEMPP_ERR_DIVERGED => c"JEMPP_ERR_DIVERGED",
        JEMPP_ERR_CANCELLED => c"JEMPP_ERR_CANCELLED",
        JEMPP_ERR_INTERNAL => c"JEMPP_ERR_INTERNAL",
        _ => c"unknown status",
    };
    name.as_ptr()
}
