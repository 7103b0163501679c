//! Validation of pointer arguments, as far as they can be checked.
//!
//! Invariants: no slice is made from a NULL or misaligned pointer or of an impossible length; the caller's memory is
//! written by one copy at the end of a call, so that outputs may overlap inputs and are untouched when the call fails.

use crate::status::{Fault, Outcome};
use core::ffi::{CStr, c_char};
use core::mem::{align_of, size_of};
use std::path::{Path, PathBuf};

/// Element types of arrays: every bit pattern is valid.
pub(crate) trait Number: Copy {}
impl Number for u8 {}
impl Number for f32 {}
impl Number for i32 {}

fn check<T>(p: *const T, len: usize, name: &str) -> Outcome {
    if p.is_null() {
        return Err(Fault::argument(format!("{name} is NULL")));
    }
    if !p.is_aligned() {
        let align = align_of::<T>();
        return Err(Fault::argument(format!("{name} ({p:p}) is not aligned to {align} bytes")));
    }
    match len.checked_mul(size_of::<T>()).filter(|bytes| isize::try_from(*bytes).is_ok()) {
        Some(_) => Ok(()),
        None => Err(Fault::argument(format!("{name} of {len} elements exceeds the address space"))),
    }
}

/// Borrows an array of the caller's.
///
/// # Safety
/// `p` is NULL or points to `len` elements that are not written during `'a`.
pub(crate) unsafe fn numbers<'a, T: Number>(p: *const T, len: usize, name: &str) -> Outcome<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    check(p, len, name)?;
    // SAFETY: not NULL, aligned and not too long; the caller of the C function guarantees the rest, as above.
    Ok(unsafe { core::slice::from_raw_parts(p, len) })
}

/// The number of elements of n items of `each` elements.
pub(crate) fn elements(n: usize, each: usize, name: &str) -> Outcome<usize> {
    n.checked_mul(each).ok_or_else(|| {
        Fault::argument(format!("{name}: {n} × {each} elements are more than memory can hold"))
    })
}

/// An output array of the caller's.
pub(crate) struct Output<T>(*mut T, usize);

impl<T: Number> Output<T> {
    /// An array of exactly `want` elements.
    pub(crate) fn new(p: *mut T, len: usize, want: usize, name: &str) -> Outcome<Self> {
        if len != want {
            return Err(Fault::argument(format!(
                "{name} has room for {len} elements, not the {want} needed"
            )));
        }
        if len > 0 {
            check(p, len, name)?;
        }
        Ok(Self(p, len))
    }

    /// Copies the results out.
    ///
    /// # Safety
    /// The pointer passed to [`Output::new`] points to `len` elements, which nothing else accesses now.
    pub(crate) unsafe fn fill(self, values: &[T]) -> Outcome {
        if values.len() != self.1 {
            let (got, want) = (values.len(), self.1);
            return Err(Fault::new(
                crate::status::JEMPP_ERR_INTERNAL,
                format!("{got} results for {want} elements"),
            ));
        }
        if self.1 > 0 {
            // SAFETY: not NULL and aligned (`new`), long enough by the caller's guarantee; `values` is our own memory.
            unsafe { core::ptr::copy_nonoverlapping(values.as_ptr(), self.0, self.1) };
        }
        Ok(())
    }
}

/// Checks a pointer to one result.
pub(crate) fn out<T>(p: *mut T, name: &str) -> Outcome<*mut T> {
    check(p, 1, name)?;
    Ok(p)
}

/// Borrows a string of the caller's.
///
/// # Safety
/// `p` is NULL or points to a NUL-terminated string that is not written during `'a`.
pub(crate) unsafe fn text<'a>(p: *const c_char, name: &str) -> Outcome<&'a str> {
    if p.is_null() {
        return Err(Fault::argument(format!("{name} is NULL")));
    }
    // SAFETY: not NULL; the caller of the C function guarantees the terminating NUL.
    let bytes = unsafe { CStr::from_ptr(p) };
    bytes.to_str().map_err(|_| Fault::argument(format!("{name} is not UTF-8")))
}

/// Copies a path of the caller's: on Unix any bytes, elsewhere UTF-8.
///
/// # Safety
/// That of [`text`].
pub(crate) unsafe fn path(p: *const c_char, name: &str) -> Outcome<PathBuf> {
    if p.is_null() {
        return Err(Fault::argument(format!("{name} is NULL")));
    }
    // SAFETY: not NULL; the caller of the C function guarantees the terminating NUL.
    let bytes = unsafe { CStr::from_ptr(p) };
    #[cfg(unix)]
    let path = {
        use std::os::unix::ffi::OsStrExt;
        Path::new(std::ffi::OsStr::from_bytes(bytes.to_bytes())).to_path_buf()
    };
    #[cfg(not(unix))]
    let path =
        Path::new(bytes.to_str().map_err(|_| Fault::argument(format!("{name} is not UTF-8")))?).to_path_buf();
    if path.as_os_str().is_empty() {
        return Err(Fault::argument(format!("{name} is empty")));
    }
    Ok(path)
}

/// A struct of the interface: plain data whose first field, `struct_size`, is its size in the caller's version.
///
/// # Safety
/// It is `repr(C)`, starts with a `u32`, and everything that a caller may store in it is a valid value.
pub(crate) unsafe trait Sized32: Copy {
    /// Its name in C.
    const NAME: &'static str;
}

/// The `struct_size` of the caller's struct, which must be at least this version's size.
///
/// # Safety
/// `p` is NULL or points to a struct that starts with its size.
unsafe fn caller_size<T: Sized32>(p: *const T, name: &str) -> Outcome<usize> {
    check(p, 1, name)?;
    // SAFETY: not NULL and aligned; it starts with a `u32` (`Sized32`).
    let theirs = unsafe { p.cast::<u32>().read() } as usize;
    let ours = size_of::<T>();
    if theirs < ours {
        let of = T::NAME;
        return Err(Fault::argument(format!(
            "{name}: struct_size is {theirs}, a {of} has {ours} bytes; set it to sizeof({of}), or call its init"
        )));
    }
    Ok(theirs)
}

/// Reads options. Fields of a newer caller's struct that this version does not know must be zero.
///
/// # Safety
/// `p` is NULL or points to a struct of `struct_size` bytes.
pub(crate) unsafe fn read<T: Sized32>(p: *const T, name: &str) -> Outcome<T> {
    // SAFETY: as required of the caller.
    let theirs = unsafe { caller_size(p, name)? };
    let ours = size_of::<T>();
    for at in ours..theirs {
        // SAFETY: within the struct, whose size the caller guarantees.
        if unsafe { p.cast::<u8>().add(at).read() } != 0 {
            let why = format!(
                "{name}: struct_size is {theirs}, and byte {at}, which this version does not know, is not zero"
            );
            return Err(Fault::argument(why));
        }
    }
    // SAFETY: at least that long, aligned, and every bit pattern is valid.
    Ok(unsafe { p.read() })
}

/// Checks a struct that receives results, and returns its `struct_size`.
///
/// # Safety
/// That of [`read`].
pub(crate) unsafe fn check_size<T: Sized32>(p: *mut T, name: &str) -> Outcome<u32> {
    // SAFETY: as required of the caller.
    let theirs = unsafe { caller_size(p.cast_const(), name)? };
    Ok(theirs as u32)
}

/// Sets a struct to `value`, and the additional fields of a newer caller's struct to zero. A struct that is too small
/// is zeroed, so that the function it is passed to rejects it.
///
/// # Safety
/// `p` is NULL or points to `size` bytes.
pub(crate) unsafe fn init<T: Sized32>(p: *mut T, size: u32, value: T) {
    if p.is_null() || !p.is_aligned() || (size as usize) < size_of::<u32>() {
        return;
    }
    // SAFETY: `size` bytes, aligned, and each write stays within them.
    unsafe {
        p.cast::<u8>().write_bytes(0, size as usize);
        if size as usize >= size_of::<T>() {
            p.write(value);
        }
        p.cast::<u32>().write(size);
    }
}
