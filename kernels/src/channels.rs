//! Helpers for loops over pixels × channels: per-channel coefficients repeated so that the inner loop is long
//! enough to vectorise, and groups of images with coefficients of their own.

use crate::cpu::{GRAIN, Real, simd::fetch_ahead};
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

impl Grouped {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.groups.iter().sum::<usize>() * self.pixels * self.c
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
        let size = (CHUNK / self.c.max(1)).max(1);
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

/// What `f` leaves in the halves of `part`, worked out on the stack: lines of the cache that hold the ends of two threads'
/// parts would go back and forth with every addition.
#[inline(always)]
pub(crate) fn on_stack<T: Real>(part: &mut [T], f: impl FnOnce(&mut [T], &mut [T])) {
    let (a, b) = part.split_at_mut(part.len() / 2);
    let (mut room_a, mut room_b) = (room(), room());
    match (room_a.0.get_mut(..a.len()), room_b.0.get_mut(..b.len())) {
        (Some(own_a), Some(own_b)) => {
            f(own_a, own_b);
            a.copy_from_slice(own_a);
            b.copy_from_slice(own_b);
        }
        // Long enough that ends hardly matter.
        _ => f(a, b),
    }
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

/// `acc[j]` += Σ_i `x[i·n + j]` with n the length of `acc`, which is long enough that no addition waits for the store of
/// the one before. `far`: see [`crate::cpu::simd::far`].
#[inline(always)]
pub(crate) fn add_rows<T: Real>(x: &[T], far: bool, acc: &mut [T]) {
    let n = acc.len();
    let mut rows = x.chunks_exact(n);
    for x in &mut rows {
        if far {
            fetch_ahead(x);
        }
        for j in 0..n {
            acc[j] += x[j];
        }
    }
    acc.iter_mut().zip(rows.remainder()).for_each(|(a, &x)| *a += x);
}

/// Adds the repetitions of the first `c` sums to these.
#[inline(always)]
pub(crate) fn fold<T: Real>(c: usize, acc: &mut [T]) {
    let (first, rest) = acc.split_at_mut(c);
    for r in rest.chunks_exact(c) {
        for j in 0..c {
            first[j] += r[j];
        }
    }
}

/// Channels whose float64 sums are held at once.
pub(crate) const BLOCK: usize = 64;

/// The chunks of the block that starts at element `first` and has `len` elements of `c` channels: each with its
/// elements in the block.
pub(crate) fn of_block(
    chunks: &[Chunk],
    c: usize,
    first: usize,
    len: usize,
) -> impl Iterator<Item = (&Chunk, Range<usize>)> {
    let from = chunks.partition_point(|k| k.start * c < first);
    let mine = chunks[from..].iter().take_while(move |k| k.start * c < first + len);
    mine.map(move |k| (k, k.start * c - first..k.end * c - first))
}

/// The chunks of a group.
pub(crate) fn of_group(chunks: &[Chunk], group: usize) -> &[Chunk] {
    let first = chunks.partition_point(|k| k.group < group);
    &chunks[first..chunks.partition_point(|k| k.group <= group)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_blocks_cover_each_block_and_have_parts_of_their_own() {
        let (shape, starts) = (Grouped { groups: vec![1, 3, 1, 2], pixels: 2, c: 3 }, [0, 6, 24, 30, 42]);
        for (len, most) in [(6, 1), (12, 2), (18, 3), (30, 3), (42, 4), (60, 4)] {
            let (chunks, each) = shape.chunks_of_blocks(len);
            assert_eq!(each, most);
            let mut parts: Vec<_> = chunks.iter().map(|k| k.part).collect();
            parts.dedup();
            assert_eq!(parts.len(), chunks.len());
            for (block, first) in (0..42).step_by(len).enumerate() {
                let size = len.min(42 - first);
                let mut next = 0;
                for (chunk, r) in of_block(&chunks, 3, first, size) {
                    assert_eq!((r.start, chunk.part / each), (next, block));
                    assert!(starts[chunk.group] <= first + r.start);
                    assert!(first + r.end <= starts[chunk.group + 1]);
                    next = r.end;
                }
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
