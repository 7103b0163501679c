//! Filters, transformed.

use super::points::{Three, spread};
use super::{PLACES, Shared};
use crate::cpu::conv::micro::Vector;

/// How transformed filters lie: blocks of output channels, each `[36, depth, width]` with some room after each place,
/// so that places do not compete for the same sets of a cache. All blocks are two vectors wide, but the last one
/// if one is enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub lanes: usize,
    pub depth: usize,
    pub k: usize,
}

impl Layout {
    pub fn blocks(&self) -> usize {
        self.k.div_ceil(2 * self.lanes)
    }
    /// Vectors of block `b`.
    pub fn vectors(&self, b: usize) -> usize {
        (self.k - b * 2 * self.lanes).div_ceil(self.lanes).min(2)
    }
    /// Elements of a place of a block of so many vectors.
    pub fn place(&self, vectors: usize) -> usize {
        (self.depth * vectors + 1) * self.lanes
    }
    /// Where block `b` starts.
    pub fn at(&self, b: usize) -> usize {
        b * PLACES * self.place(2)
    }
    pub fn len(&self) -> usize {
        let last = self.blocks() - 1;
        self.at(last) + PLACES * self.place(self.vectors(last))
    }
}

/// Input channels a task transforms.
pub(super) const GROUP: usize = 16;

/// Transforms input channels `GROUP·group..` of block `b`. `w` are filters of `[k, 3, 3, depth]`; if `flipped`,
/// `[depth, 3, 3, k]`, to be turned by half a turn.
///
/// # Safety
/// The instruction set of `V` is present; `to` is writable as `layout` says, and nobody else writes these channels.
#[inline(always)]
pub(super) unsafe fn transform<V: Vector>(
    layout: &Layout,
    w: &[f32],
    flipped: bool,
    (b, group): (usize, usize),
    to: Shared,
) {
    let vectors = layout.vectors(b);
    let (width, place) = (vectors * V::LANES, layout.place(vectors));
    let k0 = b * 2 * V::LANES;
    let ks = (layout.k - k0).min(width);
    for c in group * GROUP..((group + 1) * GROUP).min(layout.depth) {
        let mut taps = [[0.0f32; 32]; 9];
        for (tap, to) in taps.iter_mut().enumerate() {
            if flipped {
                to[..ks].copy_from_slice(&w[(c * 9 + 8 - tap) * layout.k + k0..][..ks]);
            } else {
                for (k, to) in to[..ks].iter_mut().enumerate() {
                    *to = w[((k0 + k) * 9 + tap) * layout.depth + c];
                }
            }
        }
        for v in 0..vectors {
            // SAFETY: taps are 32 wide, as wide as two vectors of any level; the rest is the caller's promise.
            unsafe {
                let from = taps.as_ptr().cast::<f32>().add(v * V::LANES);
                let to = to.get().add(layout.at(b) + c * width + v * V::LANES);
                spread::<V, Three, 3, 6>((from, 96, 32), to, place);
            }
        }
    }
}
