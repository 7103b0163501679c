//! Which library this is.

use core::ffi::c_char;

/// The number of this header's ABI: it changes when a program compiled against the old header would break.
pub const JEMPP_ABI_VERSION: u32 = 1;

/// The number of the library's ABI; compare it with JEMPP_ABI_VERSION. Any thread; cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_abi_version() -> u32 {
    JEMPP_ABI_VERSION
}

/// The library's version, such as "0.1.0".
///
/// Returns a string that lives as long as the process. Any thread; cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
