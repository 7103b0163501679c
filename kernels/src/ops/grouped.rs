//! Helpers for loops over pixels × channels: per-channel coefficients repeated so that the inner loop is long
//! enough to vectorise, and groups of images with coefficients of their own.

use crate::cpu::{Cpu, GRAIN, Real, Simd, for_parts, simd::multiversion};
use core::ops::Range;

/// Shape of a grouped per-channel operation: consecutive images belong to groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouped {
    /// Images of each group, in order.
    pub groups: Vec<usize>,
    /// Pixels of an image.
    pub pixels: usize,
    /// Channels.
    pub c: usize,
}

/// One task of a grouped loop: rows (pixels) `start..end` of the whole tensor, all in `group`; its result is part
/// number `part`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    pub group: usize,
    pub start: usize,
    pub end: usize,
    pub part: usize,
}

/// Elements a chunk holds at most: 64 KiB of float32.
const CHUNK: usize = 16 * 1024;
/// Elements of a chunk, at most, of a tensor too large for the caches: larger chunks, since prefetching restarts with
/// each.
const UNCACHED_CHUNK: usize = 4 * CHUNK;
/// Elements from which a tensor counts as too large for the caches: 16 MiB of float32.
const UNCACHED: usize = 4 << 20;

impl Grouped {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.groups.iter().sum::<usize>() * self.pixels * self.c
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the tensor is too large for the caches, so that loops that only read should prefetch it: the hardware
    /// prefetcher stops at every page and leaves half of the memory bandwidth unused. For a tensor in a cache the
    /// prefetch instructions would cost as much as they gain.
    fn prefetch(&self) -> bool {
        self.len() >= UNCACHED
    }

    /// Rows of each group, in order.
    pub(crate) fn rows_per_group(&self) -> Vec<usize> {
        (0..self.groups.len()).map(|g| self.rows(g)).collect()
    }

    /// Rows of group `g`.
    pub fn rows(&self, g: usize) -> usize {
        self.groups[g] * self.pixels
    }

    /// Calls `f` for the pieces of elements `at..at + len` by group: the group, and the elements of the whole tensor.
    /// Groups may be small and many, so work is distributed over all of them, not group by group.
    pub(crate) fn pieces(&self, at: usize, len: usize, mut f: impl FnMut(usize, Range<usize>)) {
        let (mut start, end) = (at, at + len);
        let mut stop = 0;
        for g in 0..self.groups.len() {
            stop += self.rows(g) * self.c;
            if start < stop.min(end) {
                f(g, start..stop.min(end));
                start = stop;
            }
        }
    }

    /// Elements of a part: whole rows, about [`GRAIN`] values.
    pub(crate) fn grain(&self) -> usize {
        (GRAIN / self.c.max(1)).max(1) * self.c.max(1)
    }

    /// Fixed chunks, each in one group; they depend on the shape only.
    pub(crate) fn chunks(&self) -> Vec<Chunk> {
        let chunk = if self.prefetch() { UNCACHED_CHUNK } else { CHUNK };
        let size = (chunk / self.c.max(1)).max(1);
        let mut out = Vec::new();
        let mut row = 0;
        for (group, &images) in self.groups.iter().enumerate() {
            let end = row + images * self.pixels;
            while row < end {
                let stop = (row + size).min(end);
                out.push(Chunk { group, start: row, end: stop, part: out.len() });
                row = stop;
            }
        }
        out
    }

    /// Chunks of a tensor that comes in blocks of `len` elements (whole rows; the last may be short): each block is cut
    /// where groups end. Also returns the most chunks that a block has: each block has that many consecutive parts.
    pub(crate) fn chunks_of_blocks(&self, len: usize) -> (Vec<Chunk>, usize) {
        let (mut out, mut at) = (Vec::new(), Vec::new());
        for from in (0..self.len()).step_by(len.max(1)) {
            at.push(out.len());
            self.pieces(from, len.min(self.len() - from), |group, r| {
                out.push(Chunk { group, start: r.start / self.c, end: r.end / self.c, part: 0 });
            });
        }
        let ends = at.iter().copied().skip(1).chain([out.len()]);
        let each = at.iter().zip(ends).map(|(from, to)| to - from).max().unwrap_or(1);
        for (block, from) in at.into_iter().enumerate() {
            for (i, chunk) in out[from..].iter_mut().take(each).enumerate() {
                chunk.part = block * each + i;
            }
        }
        (out, each)
    }
}

/// The least length of a repeated coefficient vector.
const SPAN: usize = 256;

/// A buffer for repeated coefficients of fewer than [`SPAN`] channels, aligned so that no vector crosses a cache line.
#[repr(align(64))]
pub(crate) struct RepeatBuffer<T>([T; 2 * SPAN]);

/// A zeroed buffer for repeated coefficients.
pub(crate) fn repeat_buffer<T: Real>() -> RepeatBuffer<T> {
    RepeatBuffer([T::ZERO; 2 * SPAN])
}

/// How often `c` channels must be repeated to give at least [`SPAN`] values.
pub(crate) fn repeats(c: usize) -> usize {
    SPAN.div_ceil(c.max(1))
}

/// `v` repeated into `buffer`, or `v` itself if it is long enough.
pub(crate) fn repeat<'a, T: Copy>(v: &'a [T], buffer: &'a mut RepeatBuffer<T>) -> &'a [T] {
    let c = v.len();
    if c == 0 || c >= SPAN {
        return v;
    }
    let all = &mut buffer.0[..c * repeats(c)];
    all[..c].copy_from_slice(v);
    let mut done = c;
    while done < all.len() {
        let more = done.min(all.len() - done);
        all.copy_within(..more, done);
        done += more;
    }
    all
}

/// Channels whose float64 sums are held at once.
pub(crate) const BLOCK: usize = 64;

/// A tensor cut into [`Chunk`]s, each of which writes its result to a part of a workspace.
#[derive(Debug)]
pub(crate) struct Chunks {
    shape: Grouped,
    chunks: Vec<Chunk>,
    /// The most chunks of a block.
    each: usize,
    /// Elements of a part.
    part: usize,
    /// Whether chunks are prefetched.
    prefetch: bool,
}

/// Consecutive chunks that a thread takes of a prefetched tensor, so that it prefetches its own data.
const RUN: usize = 2;

impl Chunks {
    /// The chunks of a shape, with parts of `part` elements.
    pub(crate) fn new(shape: Grouped, part: usize) -> Self {
        let (chunks, prefetch) = (shape.chunks(), shape.prefetch());
        Self { shape, chunks, each: 1, part, prefetch }
    }

    /// The chunks of a tensor that [`Chunks::block`] is given in blocks of `len` elements, whole rows.
    pub(crate) fn of_blocks(shape: Grouped, len: usize, part: usize) -> Self {
        let (chunks, each) = shape.chunks_of_blocks(len);
        Self { shape, chunks, each, part, prefetch: false }
    }

    /// The shape.
    pub(crate) fn shape(&self) -> &Grouped {
        &self.shape
    }

    /// Whether chunks are prefetched.
    pub(crate) fn prefetch(&self) -> bool {
        self.prefetch
    }

    /// Elements of the parts of a block.
    pub(crate) fn block_part(&self) -> usize {
        self.each * self.part
    }

    /// Elements of all parts.
    pub(crate) fn parts(&self) -> usize {
        self.chunks.last().map_or(0, |k| (k.part / self.each + 1) * self.block_part())
    }

    /// Calls `f` for each chunk with its elements and its part.
    pub(crate) fn run<T: Real>(
        &self,
        cpu: &Cpu,
        parts: &mut [T],
        f: impl Fn(&Chunk, Range<usize>, &mut [T]) + Sync,
    ) {
        let run = if self.prefetch { RUN } else { 1 };
        for_parts(cpu, parts, run * self.part, |t, parts| {
            for (chunk, part) in self.chunks.iter().skip(t * run).zip(parts.chunks_exact_mut(self.part)) {
                f(chunk, chunk.start * self.shape.c..chunk.end * self.shape.c, part);
            }
        });
    }

    /// Calls `f` for each chunk of the block that starts at element `first` and has `len` elements, with its elements
    /// in the block and its part among those of the block.
    pub(crate) fn block<T>(
        &self,
        first: usize,
        len: usize,
        parts: &mut [T],
        mut f: impl FnMut(&Chunk, Range<usize>, &mut [T]),
    ) {
        let c = self.shape.c;
        let from = self.chunks.partition_point(|k| k.start * c < first);
        let mine = self.chunks[from..].iter().take_while(|k| k.start * c < first + len);
        for (k, part) in mine.zip(parts.chunks_exact_mut(self.part)) {
            f(k, k.start * c - first..k.end * c - first, part);
        }
    }

    /// The parts of a group's chunks, in order.
    pub(crate) fn parts_of_group<'a, T>(
        &'a self,
        group: usize,
        parts: &'a [T],
    ) -> impl Iterator<Item = (&'a Chunk, &'a [T])> + Clone {
        let first = self.chunks.partition_point(|k| k.group < group);
        let chunks = &self.chunks[first..self.chunks.partition_point(|k| k.group <= group)];
        chunks.iter().map(|k| (k, &parts[k.part * self.part..][..self.part]))
    }

    /// Adds the parts of each group's chunks, in order, in float64: `out[k][g, c]` is the sum of the values from
    /// `k·span` on of each part.
    pub(crate) fn total<T: Real, const N: usize>(
        &self,
        simd: Simd,
        span: usize,
        parts: &[T],
        out: [&mut [T]; N],
    ) {
        for (k, out) in out.into_iter().enumerate() {
            for (g, out) in out.chunks_exact_mut(self.shape.c.max(1)).enumerate() {
                total(simd, self, g, k * span, parts, out);
            }
        }
    }
}

multiversion! {
    fn total<T: Real>(chunks: &Chunks, group: usize, at: usize, parts: &[T], out: &mut [T]) {
        for (k, out) in out.chunks_mut(BLOCK).enumerate() {
            let mut sums = [0.0f64; BLOCK];
            for (_, part) in chunks.parts_of_group(group, parts) {
                let part = &part[at + k * BLOCK..][..out.len()];
                sums.iter_mut().zip(part).for_each(|(sum, v)| *sum += v.to_f64());
            }
            out.iter_mut().zip(&sums).for_each(|(o, sum)| *o = T::of(*sum));
        }
    }
}

#[cfg(test)]
mod tests;
