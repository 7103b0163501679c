//! Helpers for loops over pixels × channels: per-channel coefficients repeated so that the inner loop is long
//! enough to vectorise, and groups of images with coefficients of their own.

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

/// One task of a grouped loop: rows (pixels) `start..end` of the whole tensor, all in `group`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    pub group: usize,
    pub start: usize,
    pub end: usize,
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

    /// Fixed chunks, each in one group; they depend on the shape only.
    pub(crate) fn chunks(&self) -> Vec<Chunk> {
        let size = (CHUNK / self.c.max(1)).max(1);
        let mut out = Vec::new();
        let mut row = 0;
        for (group, &images) in self.groups.iter().enumerate() {
            let end = row + images * self.pixels;
            while row < end {
                let stop = (row + size).min(end);
                out.push(Chunk { group, start: row, end: stop });
                row = stop;
            }
        }
        out
    }
}

/// Values a repeated coefficient vector holds at least.
const SPAN: usize = 64;

/// Whole repetitions of `c` channels that give at least [`SPAN`] values.
pub(crate) fn repeats(c: usize) -> usize {
    SPAN.div_ceil(c.max(1))
}

/// `v` repeated.
pub(crate) fn repeat<T: Copy>(v: &[T]) -> Vec<T> {
    v.repeat(repeats(v.len()))
}
