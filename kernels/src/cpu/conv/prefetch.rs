//! Software prefetch interleaved with arithmetic: transforms touch short pieces of many rows, too short for the
//! hardware prefetcher, and would otherwise wait for each.

use core::ops::Range;

/// Float32 elements in a cache line.
const LINE: usize = 16;

/// Slices to prefetch, a few cache lines at a time.
#[derive(Default)]
pub(super) struct Prefetch {
    slices: [Option<Range<*const f32>>; 4],
    /// Lines per step.
    step: usize,
}

impl Prefetch {
    /// Slices that are to be prefetched in this many steps.
    pub(super) fn new(slices: [&[f32]; 4], steps: usize) -> Self {
        let lines: usize = slices.iter().map(|s| s.len().div_ceil(LINE)).sum();
        Self { slices: slices.map(|s| Some(s.as_ptr_range())), step: lines.div_ceil(steps) }
    }

    /// Prefetches the lines of the next step. A hint: it does not wait.
    #[inline(always)]
    pub(super) fn fetch(&mut self) {
        let mut left = self.step;
        for Range { start, end } in self.slices.iter_mut().flatten() {
            while left > 0 && *start < *end {
                #[cfg(target_arch = "x86_64")]
                {
                    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                    // SAFETY: a prefetch has no visible effect and never faults.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(start.cast()) };
                }
                *start = start.wrapping_add(LINE);
                left -= 1;
            }
        }
    }
}
