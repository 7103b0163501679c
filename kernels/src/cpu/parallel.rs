//! Parallel loops over disjoint parts of mutable slices.
//!
//! Soundness rests on the contract of [`super::Pool::run`]: it calls each task number once, and no two concurrent calls
//! have the same worker number.

use super::Cpu;
use core::marker::PhantomData;

/// A mutable slice whose parts several tasks use.
struct Parts<'a, T> {
    ptr: *mut T,
    len: usize,
    size: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: only disjoint parts are taken from it, each by one task at a time.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    fn new(data: &'a mut [T], size: usize) -> Self {
        Self { ptr: data.as_mut_ptr(), len: data.len(), size, life: PhantomData }
    }

    /// Part `i`: elements `i·size .. (i+1)·size`, cut at the end of the slice.
    ///
    /// # Safety
    /// No other reference to part `i` may be alive.
    #[allow(clippy::mut_from_ref)]
    unsafe fn get(&self, i: usize) -> &mut [T] {
        let start = (i * self.size).min(self.len);
        let end = (start + self.size).min(self.len);
        // SAFETY: the range lies in the slice borrowed for 'a; the caller guarantees exclusive access.
        unsafe { core::slice::from_raw_parts_mut(self.ptr.add(start), end - start) }
    }
}

/// Runs one task for each part of `size` elements of `a`: `f(task, part)`.
pub(crate) fn for_parts<A: Send>(cpu: &Cpu, a: &mut [A], size: usize, f: impl Fn(usize, &mut [A]) + Sync) {
    for_parts2(cpu, a, size, &mut [(); 0], 0, |t, a, _| f(t, a));
}

/// Like [`for_parts`] for two slices: task `t` gets part `t` of both.
pub(crate) fn for_parts2<A: Send, B: Send>(
    cpu: &Cpu,
    a: &mut [A],
    a_size: usize,
    b: &mut [B],
    b_size: usize,
    f: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) {
    for_parts3(cpu, a, a_size, b, b_size, &mut [(); 0], 0, |t, a, b, _| f(t, a, b));
}

/// Like [`for_parts2`] for three slices.
pub(crate) fn for_parts3<A: Send, B: Send, C: Send>(
    cpu: &Cpu,
    a: &mut [A],
    a_size: usize,
    b: &mut [B],
    b_size: usize,
    c: &mut [C],
    c_size: usize,
    f: impl Fn(usize, &mut [A], &mut [B], &mut [C]) + Sync,
) {
    let tasks = a.len().div_ceil(a_size.max(1));
    let (a, b, c) = (Parts::new(a, a_size.max(1)), Parts::new(b, b_size), Parts::new(c, c_size));
    cpu.pool.run(tasks, &|t, _| {
        // SAFETY: `run` calls each task once, so part `t` of each slice has one reference.
        f(t, unsafe { a.get(t) }, unsafe { b.get(t) }, unsafe { c.get(t) });
    });
}

/// Fills the part `out`, which begins at element `at` of a tensor, with the old values. `old` = `None` means that the
/// op runs in place: `out` holds them already.
pub(crate) fn copy_unless_in_place<T: Copy>(old: Option<&[T]>, at: usize, out: &mut [T]) {
    if let Some(old) = old {
        out.copy_from_slice(&old[at..][..out.len()]);
    }
}

/// Like [`for_parts`], with a part of `scratch` for each worker: `f(task, part, scratch)`.
pub(crate) fn for_parts_scratch<A: Send, S: Send>(
    cpu: &Cpu,
    a: &mut [A],
    a_size: usize,
    scratch: &mut [S],
    f: impl Fn(usize, &mut [A], &mut [S]) + Sync,
) {
    for_parts2_scratch(cpu, a, a_size, &mut [(); 0], 0, scratch, |t, a, _, s| f(t, a, s));
}

/// Like [`for_parts_scratch`] for two slices.
pub(crate) fn for_parts2_scratch<A: Send, B: Send, S: Send>(
    cpu: &Cpu,
    a: &mut [A],
    a_size: usize,
    b: &mut [B],
    b_size: usize,
    scratch: &mut [S],
    f: impl Fn(usize, &mut [A], &mut [B], &mut [S]) + Sync,
) {
    let tasks = a.len().div_ceil(a_size.max(1));
    let each = scratch.len() / cpu.pool.threads();
    let (a, b) = (Parts::new(a, a_size.max(1)), Parts::new(b, b_size));
    let scratch = Parts::new(scratch, each);
    cpu.pool.run(tasks, &|t, worker| {
        // SAFETY: each task runs once, and no two running tasks share a worker, so all references are exclusive.
        f(t, unsafe { a.get(t) }, unsafe { b.get(t) }, unsafe { scratch.get(worker) });
    });
}
