//! Status numbers, and the message of each thread's last error.
//!
//! What must hold: the numbers are frozen, and a message lives until the next call of its thread.

use jempp::Error;
use jempp::engine;
use std::cell::RefCell;
use std::ffi::{CString, c_char};

/// What a function answers: one of the numbers below. They never change their meaning.
pub type jempp_status = i32;

/// Done.
pub const JEMPP_OK: jempp_status = 0;
/// An argument cannot be: NULL, a wrong length, a value out of range, a handle that is none (any more).
pub const JEMPP_ERR_INVALID_ARGUMENT: jempp_status = 1;
/// The system refused a file operation, or nothing is at the path.
pub const JEMPP_ERR_IO: jempp_status = 2;
/// A file is not what its format says, or lacks what was asked for.
pub const JEMPP_ERR_FORMAT: jempp_status = 3;
/// A compute device is missing or failed.
pub const JEMPP_ERR_DEVICE: jempp_status = 4;
/// There is not enough memory.
pub const JEMPP_ERR_OUT_OF_MEMORY: jempp_status = 5;
/// Another thread is using the handle.
pub const JEMPP_ERR_BUSY: jempp_status = 6;
/// Training or a chain left the numbers that it can recover from.
pub const JEMPP_ERR_DIVERGED: jempp_status = 7;
/// A callback asked to stop.
pub const JEMPP_ERR_CANCELLED: jempp_status = 8;
/// An error in the library; the handles of the call are dead from now on.
pub const JEMPP_ERR_INTERNAL: jempp_status = 9;

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Fault {
    pub status: jempp_status,
    pub message: String,
}

/// What the body of a call gives.
pub(crate) type Outcome<T = ()> = Result<T, Fault>;

impl Fault {
    pub fn new(status: jempp_status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub fn argument(message: impl Into<String>) -> Self {
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

/// Keeps a message for `jempp_last_error`; an empty one for a call that went well.
pub(crate) fn remember(message: &str) {
    // A message with a zero byte would end there.
    let text = CString::new(message.replace('\0', "\u{fffd}")).unwrap_or_default();
    let _ = LAST.try_with(|last| last.replace(text));
}

/// The message of this thread's last call that returned a jempp_status: what went wrong and what to do about it, or "" if
/// it returned JEMPP_OK.
///
/// Returns UTF-8, never NULL; it belongs to the library and lives until this thread's next such call. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// The name of a status, such as "JEMPP_ERR_BUSY", or "unknown status".
///
/// Returns a string that lives as long as the process. Any thread; cannot fail.
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
