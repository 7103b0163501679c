//! Sums over the rows of a matrix, column by column, in registers: sums in memory would be stored for every row, and
//! the processor cannot read far enough ahead past those stores to use the memory bandwidth.
//!
//! What must hold: a column's terms are added in an order that depends on the number of channels and rows only, the
//! same for every instruction set.

use super::vector::{Arithmetic, Quad};
use super::{Level, Real, Simd};

/// The terms of N sums per column.
///
/// # Safety
/// [`Term::add`] stays inside what the value borrows wherever [`Term::one`] would not panic.
pub(crate) unsafe trait Term<T: Real, const N: usize>: Copy {
    /// Elements of each tensor that is read.
    fn len(&self) -> usize;
    /// The terms of element i, which lies in column j.
    fn one(&self, i: usize, j: usize) -> [T; N];
    /// The tensors to prefetch.
    fn tensors(&self) -> [Option<*const T>; 2];
    /// Adds the terms of elements i and on, which lie in columns j and on.
    ///
    /// # Safety
    /// T is float32; the instruction set of V; all lanes lie inside the tensors and coefficients.
    unsafe fn add<V: Arithmetic>(&self, i: usize, j: usize, sums: [V; N]) -> [V; N];
}

/// The least number of columns that are summed at once: rows of few channels are taken together.
const SPAN: usize = 128;
/// The prefetch distance in elements, for tensors too large for the caches.
const AHEAD: usize = 2048;

/// The columns summed at once for c channels: whole rows, [`SPAN`] or more.
pub(crate) fn span(c: usize) -> usize {
    c * SPAN.div_ceil(c.max(1))
}

/// The N sums of each of c channels: sum k in the values from `k·span(c)` on of `out`, which has `N·span(c)`. `prefetch`:
/// whether tensors are prefetched.
#[inline]
pub(crate) fn sums<T: Real, const N: usize, S: Term<T, N>>(
    simd: Simd,
    s: &S,
    c: usize,
    prefetch: bool,
    out: &mut [T],
) {
    let (n, len) = (span(c), s.len());
    let out = &mut out[..N * n];
    let whole = len / n * n;
    let mut done = 0;
    if whole > 0
        && let Some(out) = T::f32s_mut(out)
    {
        let out = out.as_mut_ptr();
        // The last element: what it borrows is as long as it says.
        s.one(whole - 1, n - 1);
        // SAFETY: a `Simd` of a level exists only where detection found these instructions; T is float32; the rows up
        // to `whole` lie in what s borrows, and `out` has N·n elements.
        done = unsafe {
            match (simd.level(), prefetch) {
                #[cfg(target_arch = "x86_64")]
                (Level::Avx512, false) => x86::avx512::<T, N, S, false>(s, n, whole, out),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx512, true) => x86::avx512::<T, N, S, true>(s, n, whole, out),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx2, false) => x86::avx2::<T, N, S, false>(s, n, whole, out),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx2, true) => x86::avx2::<T, N, S, true>(s, n, whole, out),
                _ => blocks::<Quad, T, N, S, false>(s, n, whole, out),
            }
        };
    }
    rest(s, n, whole, done, out);
    for sum in out.chunks_exact_mut(n) {
        let (first, rest) = sum.split_at_mut(c);
        for more in rest.chunks_exact(c) {
            first.iter_mut().zip(more).for_each(|(sum, more)| *sum += *more);
        }
    }
}

/// Adds the columns from `done` on over the rows of n columns up to element `whole`, and the elements after those rows.
fn rest<T: Real, const N: usize, S: Term<T, N>>(s: &S, n: usize, whole: usize, done: usize, out: &mut [T]) {
    out.chunks_exact_mut(n).for_each(|sum| sum[done..].fill(T::ZERO));
    let columns = (0..whole).step_by(n).flat_map(|row| (done..n).map(move |j| (row + j, j)));
    for (i, j) in columns.chain((whole..s.len()).map(|i| (i, i - whole))) {
        for (sum, term) in out.chunks_exact_mut(n).zip(s.one(i, j)) {
            sum[j] += term;
        }
    }
}

/// The sums of as many columns as whole vectors hold, over the rows of n columns up to element `whole`: how many
/// columns.
///
/// # Safety
/// As [`Term::add`] for these rows; `out` has N·n elements.
#[inline(always)]
unsafe fn blocks<V: Arithmetic, T: Real, const N: usize, S: Term<T, N>, const PREFETCH: bool>(
    s: &S,
    n: usize,
    whole: usize,
    out: *mut f32,
) -> usize {
    let vectors = n / V::LANES;
    // As many as the registers hold.
    let most = if V::LANES == 16 { 10 } else { 4 };
    let each = vectors.div_ceil(vectors.div_ceil(most).max(1));
    let mut done = 0;
    while done < vectors {
        let first = done * V::LANES;
        // SAFETY: as the caller guarantees; the columns of these vectors lie in n.
        done += unsafe {
            match (vectors - done).min(each) {
                10.. => block::<V, T, N, S, PREFETCH, 10>(s, first, n, whole, out),
                8.. => block::<V, T, N, S, PREFETCH, 8>(s, first, n, whole, out),
                6.. => block::<V, T, N, S, PREFETCH, 6>(s, first, n, whole, out),
                4.. => block::<V, T, N, S, PREFETCH, 4>(s, first, n, whole, out),
                2.. => block::<V, T, N, S, PREFETCH, 2>(s, first, n, whole, out),
                _ => block::<V, T, N, S, PREFETCH, 1>(s, first, n, whole, out),
            }
        };
    }
    vectors * V::LANES
}

/// The sums of K vectors of columns from `first` on.
///
/// # Safety
/// As [`blocks`].
#[inline(always)]
unsafe fn block<
    V: Arithmetic,
    T: Real,
    const N: usize,
    S: Term<T, N>,
    const PREFETCH: bool,
    const K: usize,
>(
    s: &S,
    first: usize,
    n: usize,
    whole: usize,
    out: *mut f32,
) -> usize {
    // SAFETY: as the caller guarantees.
    unsafe {
        let mut sums = [[V::zero(); N]; K];
        for row in (first..whole).step_by(n) {
            for (k, sums) in sums.iter_mut().enumerate() {
                let at = k * V::LANES;
                *sums = s.add(row + at, first + at, *sums);
                if PREFETCH && at.is_multiple_of(LINE) {
                    s.tensors().into_iter().flatten().for_each(|x| fetch(x.wrapping_add(row + at + AHEAD)));
                }
            }
        }
        for (k, sums) in sums.iter().enumerate() {
            for (i, sum) in sums.iter().enumerate() {
                sum.store(out.add(i * n + first + k * V::LANES));
            }
        }
    }
    K
}

/// Float32 elements in a cache line.
const LINE: usize = 16;

/// Prefetches the cache line of x: a hint, valid for any address.
#[inline(always)]
fn fetch<T>(x: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch has no visible effect and never faults, for any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(x.cast()) };
    }
    let _ = x;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Real, Term, blocks};
    use core::arch::x86_64::{__m256, __m512};

    /// # Safety
    /// As [`blocks`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) unsafe fn avx512<T: Real, const N: usize, S: Term<T, N>, const PREFETCH: bool>(
        s: &S,
        n: usize,
        whole: usize,
        out: *mut f32,
    ) -> usize {
        // SAFETY: passed on.
        unsafe { blocks::<__m512, T, N, S, PREFETCH>(s, n, whole, out) }
    }

    /// # Safety
    /// As [`blocks`].
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2<T: Real, const N: usize, S: Term<T, N>, const PREFETCH: bool>(
        s: &S,
        n: usize,
        whole: usize,
        out: *mut f32,
    ) -> usize {
        // SAFETY: passed on.
        unsafe { blocks::<__m256, T, N, S, PREFETCH>(s, n, whole, out) }
    }
}

#[cfg(test)]
mod tests;
