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

/// One task of a grouped loop: rows (pixels) `start..end` of the whole tensor, all in `group`; what it finds lies in
/// the part of number `part`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    pub group: usize,
    pub start: usize,
    pub end: usize,
    pub part: usize,
}

/// Elements a chunk holds at most: 64 KiB of float32.
const CHUNK: usize = 16 * 1024;
/// The same of a tensor that is not expected in a cache: where a chunk ends, fetching ahead falters.
const FAR_CHUNK: usize = 4 * CHUNK;
/// Elements of such a tensor, at least: 16 MiB of float32.
const FAR: usize = 4 << 20;

impl Grouped {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.groups.iter().sum::<usize>() * self.pixels * self.c
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the tensor is not expected in a cache, so that loops that only read should fetch it ahead: the processor's
    /// own guesses stop at every page and leave half of what memory can deliver. In a cache it would cost as much as it
    /// brings.
    fn far(&self) -> bool {
        self.len() >= FAR
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
    /// Groups may be small and many, so work is shared out over all of them, not group by group.
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
        let chunk = if self.far() { FAR_CHUNK } else { CHUNK };
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

    /// Chunks of a tensor that comes in blocks of `len` elements (whole rows; the last may be short): each block cut
    /// where groups end. And how many a block has at most: its chunks' parts are as many numbers on end.
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

/// Values a repeated coefficient vector holds at least.
const SPAN: usize = 256;

/// Room for what is repeated: fewer than [`SPAN`] channels, as often as needed. No vector of it crosses a cache line.
#[repr(align(64))]
pub(crate) struct Room<T>([T; 2 * SPAN]);

/// Room that holds nothing yet.
pub(crate) fn room<T: Real>() -> Room<T> {
    Room([T::ZERO; 2 * SPAN])
}

/// Whole repetitions of `c` channels that give at least [`SPAN`] values.
pub(crate) fn repeats(c: usize) -> usize {
    SPAN.div_ceil(c.max(1))
}

/// `v` repeated, in `room` unless it is long enough as it is.
pub(crate) fn repeat<'a, T: Copy>(v: &'a [T], room: &'a mut Room<T>) -> &'a [T] {
    let c = v.len();
    if c == 0 || c >= SPAN {
        return v;
    }
    let all = &mut room.0[..c * repeats(c)];
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

/// A tensor cut into [`Chunk`]s, each of which leaves what it finds in a part of a workspace.
#[derive(Debug)]
pub(crate) struct Chunks {
    shape: Grouped,
    chunks: Vec<Chunk>,
    /// Chunks a block has at most.
    each: usize,
    /// Elements of a part.
    part: usize,
    /// Whether chunks are to be fetched ahead.
    far: bool,
}

/// Chunks that a thread takes on end from a tensor that is fetched ahead, so that this is for itself.
const RUN: usize = 2;

impl Chunks {
    /// Of a shape, with parts of so many elements.
    pub fn new(shape: Grouped, part: usize) -> Self {
        let (chunks, far) = (shape.chunks(), shape.far());
        Self { shape, chunks, each: 1, part, far }
    }

    /// Of a tensor that is seen in blocks of `len` elements, whole rows, by [`Chunks::block`].
    pub fn of_blocks(shape: Grouped, len: usize, part: usize) -> Self {
        let (chunks, each) = shape.chunks_of_blocks(len);
        Self { shape, chunks, each, part, far: false }
    }

    /// The shape.
    pub fn shape(&self) -> &Grouped {
        &self.shape
    }

    /// Whether chunks are to be fetched ahead.
    pub fn far(&self) -> bool {
        self.far
    }

    /// Elements that a block finds.
    pub fn block_part(&self) -> usize {
        self.each * self.part
    }

    /// Elements of all parts.
    pub fn parts(&self) -> usize {
        self.chunks.last().map_or(0, |k| (k.part / self.each + 1) * self.block_part())
    }

    /// Calls `f` for each chunk with its elements and its part.
    pub fn run<T: Real>(
        &self,
        cpu: &Cpu,
        parts: &mut [T],
        f: impl Fn(&Chunk, Range<usize>, &mut [T]) + Sync,
    ) {
        let run = if self.far { RUN } else { 1 };
        for_parts(cpu, parts, run * self.part, |t, parts| {
            for (chunk, part) in self.chunks.iter().skip(t * run).zip(parts.chunks_exact_mut(self.part)) {
                f(chunk, chunk.start * self.shape.c..chunk.end * self.shape.c, part);
            }
        });
    }

    /// Calls `f` for each chunk of the block that starts at element `first` and has `len` elements, with its elements
    /// in the block and its part among those of the block.
    pub fn block<T>(
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

    /// What each chunk of a group found, in order.
    pub fn found<'a, T>(
        &'a self,
        group: usize,
        parts: &'a [T],
    ) -> impl Iterator<Item = (&'a Chunk, &'a [T])> + Clone {
        let first = self.chunks.partition_point(|k| k.group < group);
        let chunks = &self.chunks[first..self.chunks.partition_point(|k| k.group <= group)];
        chunks.iter().map(|k| (k, &parts[k.part * self.part..][..self.part]))
    }

    /// Adds what the chunks of each group found, in order, in float64: sum k, of the values from `k·span` on of each part,
    /// into `out[k][g, c]`.
    pub fn total<T: Real, const N: usize>(&self, simd: Simd, span: usize, parts: &[T], out: [&mut [T]; N]) {
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
            for (_, part) in chunks.found(group, parts) {
                let part = &part[at + k * BLOCK..][..out.len()];
                sums.iter_mut().zip(part).for_each(|(sum, v)| *sum += v.to_f64());
            }
            out.iter_mut().zip(&sums).for_each(|(o, sum)| *o = T::of(*sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_blocks_cover_each_block_and_have_parts_of_their_own() {
        let (shape, starts) = (Grouped { groups: vec![1, 3, 1, 2], pixels: 2, c: 3 }, [0, 6, 24, 30, 42]);
        for (len, most) in [(6, 1), (12, 2), (18, 3), (30, 3), (42, 4), (60, 4)] {
            let chunks = Chunks::of_blocks(shape.clone(), len, 1);
            assert_eq!(chunks.block_part(), most);
            let mut parts: Vec<_> = chunks.chunks.iter().map(|k| k.part).collect();
            parts.dedup();
            assert_eq!(parts.len(), chunks.chunks.len());
            for (block, first) in (0..42).step_by(len).enumerate() {
                let size = len.min(42 - first);
                let mut next = 0;
                chunks.block(first, size, &mut vec![0; most], |chunk, r, _| {
                    assert_eq!((r.start, chunk.part / most), (next, block));
                    assert!(starts[chunk.group] <= first + r.start);
                    assert!(first + r.end <= starts[chunk.group + 1]);
                    next = r.end;
                });
                assert_eq!(next, size);
            }
        }
    }

    #[test]
    fn pieces_cover_every_part_group_by_group() {
        let shape = Grouped { groups: vec![1, 3, 1, 2], pixels: 2, c: 3 };
        let starts = [0, 6, 24, 30, 42];
        for size in (3..=42).step_by(3) {
            let mut at = 0;
            while at < 42 {
                let len = size.min(42 - at);
                let mut next = at;
                shape.pieces(at, len, |g, r| {
                    assert!(
                        r.start == next && !r.is_empty() && starts[g] <= r.start && r.end <= starts[g + 1]
                    );
                    next = r.end;
                });
                assert_eq!(next, at + len);
                at += len;
            }
        }
    }
}
