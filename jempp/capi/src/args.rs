//! What comes in through pointers, checked as far as it can be.
//!
//! What must hold: no slice is made of a NULL, misaligned or impossibly long pointer; the caller's memory is written by
//! one copy at the end of a call, so that it may overlap what came in and is untouched by a failure.

use crate::status::{Fault, Outcome};
use core::ffi::{CStr, c_char};
use core::mem::{align_of, size_of};
use std::path::{Path, PathBuf};

/// Numbers that come in arrays: any bits are a value.
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
        None => Err(Fault::argument(format!("{name} of {len} elements is longer than memory can be"))),
    }
}

/// Numbers of the caller's, for the time of the call.
///
/// # Safety
/// `p` is NULL or leads to `len` numbers that nobody writes during `'a`.
pub(crate) unsafe fn numbers<'a, T: Number>(p: *const T, len: usize, name: &str) -> Outcome<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    check(p, len, name)?;
    // SAFETY: not NULL, aligned and not too long; the caller of the C function answers for the rest, as above.
    Ok(unsafe { core::slice::from_raw_parts(p, len) })
}

/// The product of numbers of elements.
pub(crate) fn elements(n: usize, each: usize, name: &str) -> Outcome<usize> {
    n.checked_mul(each).ok_or_else(|| {
        Fault::argument(format!("{name}: {n} × {each} elements are more than memory can hold"))
    })
}

/// Room of the caller's for results.
pub(crate) struct Room<T>(*mut T, usize);

impl<T: Number> Room<T> {
    /// Room for exactly `want` elements.
    pub fn new(p: *mut T, len: usize, want: usize, name: &str) -> Outcome<Self> {
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
    /// The pointer that [`Room::new`] got leads to as many elements as it was told, and nobody else uses them now.
    pub unsafe fn fill(self, values: &[T]) -> Outcome {
        if values.len() != self.1 {
            let (got, want) = (values.len(), self.1);
            return Err(Fault::new(crate::JEMPP_ERR_INTERNAL, format!("{got} results for {want} elements")));
        }
        if self.1 > 0 {
            // SAFETY: not NULL and aligned (`new`), long enough as the caller of the C function says; `values` is ours.
            unsafe { core::ptr::copy_nonoverlapping(values.as_ptr(), self.0, self.1) };
        }
        Ok(())
    }
}

/// A pointer that a result is written through.
pub(crate) fn out<T>(p: *mut T, name: &str) -> Outcome<*mut T> {
    check(p, 1, name)?;
    Ok(p)
}

/// A text of the caller's.
///
/// # Safety
/// `p` is NULL or leads to bytes that end in a zero, which nobody writes during `'a`.
pub(crate) unsafe fn text<'a>(p: *const c_char, name: &str) -> Outcome<&'a str> {
    if p.is_null() {
        return Err(Fault::argument(format!("{name} is NULL")));
    }
    // SAFETY: not NULL; the caller of the C function answers for the zero at its end.
    let bytes = unsafe { CStr::from_ptr(p) };
    bytes.to_str().map_err(|_| Fault::argument(format!("{name} is not UTF-8")))
}

/// A path of the caller's: on Unix any bytes, elsewhere UTF-8.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn path(p: *const c_char, name: &str) -> Outcome<PathBuf> {
    if p.is_null() {
        return Err(Fault::argument(format!("{name} is NULL")));
    }
    // SAFETY: not NULL; the caller of the C function answers for the zero at its end.
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

/// A struct of the interface: plain data whose first field is its size as the caller knows it.
///
/// # Safety
/// It is `repr(C)`, starts with a `u32`, and any bits that a caller may put into it are a value of it.
pub(crate) unsafe trait Sized32: Copy {
    /// Its name in C.
    const NAME: &'static str;
}

/// The size that the caller's struct says it has; it must hold at least what this version knows.
///
/// # Safety
/// `p` is NULL or leads to a struct that starts with its size.
unsafe fn size_of_theirs<T: Sized32>(p: *const T, name: &str) -> Outcome<usize> {
    check(p, 1, name)?;
    // SAFETY: not NULL and aligned; a `u32` stands at its start (`Sized32`).
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

/// Reads options. What a newer caller's struct holds beyond what this version knows must be zero.
///
/// # Safety
/// `p` is NULL or leads to a struct as long as its `struct_size` says.
pub(crate) unsafe fn read<T: Sized32>(p: *const T, name: &str) -> Outcome<T> {
    // SAFETY: as the caller says.
    let theirs = unsafe { size_of_theirs(p, name)? };
    let ours = size_of::<T>();
    for at in ours..theirs {
        // SAFETY: within the struct, whose size the caller answers for.
        if unsafe { p.cast::<u8>().add(at).read() } != 0 {
            let why = format!(
                "{name}: struct_size is {theirs}, and byte {at} is set, which this version does not know"
            );
            return Err(Fault::argument(why));
        }
    }
    // SAFETY: at least so long, aligned, and any bits are a value.
    Ok(unsafe { p.read() })
}

/// Checks a struct that results go into.
///
/// # Safety
/// As [`read`].
pub(crate) unsafe fn check_size<T: Sized32>(p: *mut T, name: &str) -> Outcome<u32> {
    // SAFETY: as the caller says.
    let theirs = unsafe { size_of_theirs(p.cast_const(), name)? };
    Ok(theirs as u32)
}

/// Sets a struct to `value`, and what a newer caller's has beyond it to zero. One that is too small is zeroed, so that the
/// call that it is given to refuses it.
///
/// # Safety
/// `p` is NULL or leads to `size` bytes.
pub(crate) unsafe fn init<T: Sized32>(p: *mut T, size: u32, value: T) {
    if p.is_null() || !p.is_aligned() || (size as usize) < size_of::<u32>() {
        return;
    }
    // SAFETY: `size` bytes, aligned, of which each write stays within.
    unsafe {
        p.cast::<u8>().write_bytes(0, size as usize);
        if size as usize >= size_of::<T>() {
            p.write(value);
        }
        p.cast::<u32>().write(size);
    }
}
