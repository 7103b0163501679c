//! Memory that will be needed prefetch, asked for while there is arithmetic to do: transforms touch short pieces of many
//! rows, too short for the processor's own guesses, and would wait for each.

use core::ops::Range;

/// Values of a line of the cache.
const LINE: usize = 16;

/// Slices to fetch, or nothing, some lines at a time.
#[derive(Default)]
pub(super) struct Prefetch {
    slices: [Option<Range<*const f32>>; 4],
    /// Lines to ask for in one step.
    step: usize,
}

impl Prefetch {
    /// To be fetched in so many steps.
    pub fn new(slices: [&[f32]; 4], steps: usize) -> Self {
        let lines: usize = slices.iter().map(|s| s.len().div_ceil(LINE)).sum();
        Self { slices: slices.map(|s| Some(s.as_ptr_range())), step: lines.div_ceil(steps) }
    }

    /// Asks for what the next step brings. A hint: nothing is waited for.
    #[inline(always)]
    pub fn fetch(&mut self) {
        let mut left = self.step;
        for Range { start, end } in self.slices.iter_mut().flatten() {
            while left > 0 && *start < *end {
                #[cfg(target_arch = "x86_64")]
                {
                    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                    // SAFETY: a prefetch reads nothing that a program can see, and never faults.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(start.cast()) };
                }
                *start = start.wrapping_add(LINE);
                left -= 1;
            }
        }
    }
}
