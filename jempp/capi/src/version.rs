//! Versions of the library and of its ABI.

use core::ffi::c_char;

/// ABI version of this header. It changes when programs compiled against an older header would break.
pub const JEMPP_ABI_VERSION: u32 = 1;

/// Minor version of the ABI of this header: grows with each version that adds functions. A program that uses a function
/// marked "since 1.N" needs a library with jempp_abi_minor() of at least N.
pub const JEMPP_ABI_MINOR: u32 = 1;

/// ABI version of the library; compare it with JEMPP_ABI_VERSION. Any thread; cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_abi_version() -> u32 {
    JEMPP_ABI_VERSION
}

/// Minor version of the library's ABI; compare it with JEMPP_ABI_MINOR. Any thread; cannot fail. Since 1.1.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_abi_minor() -> u32 {
    JEMPP_ABI_MINOR
}

/// Version of the library, such as "0.1.0".
///
/// Returns a static string. Any thread; cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn jempp_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
