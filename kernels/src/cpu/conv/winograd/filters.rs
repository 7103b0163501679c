//! Filters, transformed.

use super::PLACES;
use super::transforms::{FilterTransform, strided, transform_tile_to};
use crate::cpu::vector::Arithmetic;

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

/// InputTransform channels a task transforms.
pub(super) const GROUP: usize = 16;
/// Output channels of a block at most.
const WIDTH: usize = 32;

/// Transforms input channels `GROUP·group..` of block `b` to `to`, `place` elements from place to place. `w` are filters
/// of `[k, 3, 3, depth]`; if `flipped`, `[depth, 3, 3, k]`, to be turned by half a turn.
///
/// # Safety
/// The instruction set of `V` is present; `[channels, width of the block]` is writable at each of 36 places.
#[inline(always)]
pub(super) unsafe fn transform<V: Arithmetic>(
    layout: &Layout,
    w: &[f32],
    flipped: bool,
    (b, group): (usize, usize),
    (to, place): (*mut f32, usize),
) {
    let width = layout.vectors(b) * V::LANES;
    let k0 = b * 2 * V::LANES;
    let (ks, c0) = ((layout.k - k0).min(width), group * GROUP);
    let cs = (layout.depth - c0).min(GROUP);
    let mut taps = [[[0.0f32; WIDTH]; GROUP]; 9];
    for (tap, to) in taps.iter_mut().enumerate() {
        if flipped {
            for (c, to) in to[..cs].iter_mut().enumerate() {
                to[..ks].copy_from_slice(&w[((c0 + c) * 9 + 8 - tap) * layout.k + k0..][..ks]);
            }
            continue;
        }
        for k in (0..ks).step_by(V::LANES) {
            for c in (0..cs).step_by(V::LANES) {
                let (k_end, c_end) = ((k + V::LANES).min(ks), (c + V::LANES).min(cs));
                let from = &w[((k0 + k) * 9 + tap) * layout.depth + c0 + c..];
                if (k_end - k, c_end - c) == (V::LANES, V::LANES) {
                    assert!(from.len() >= (V::LANES - 1) * 9 * layout.depth + V::LANES);
                    // SAFETY: as just checked; k and c are below the sizes of the table.
                    unsafe {
                        V::transpose(from.as_ptr(), 9 * layout.depth, to[c].as_mut_ptr().add(k), WIDTH)
                    };
                    continue;
                }
                for i in 0..k_end - k {
                    for j in 0..c_end - c {
                        to[c + j][k + i] = from[i * 9 * layout.depth + j];
                    }
                }
            }
        }
    }
    for c in 0..cs {
        for v in (0..width).step_by(V::LANES) {
            // SAFETY: taps are as wide as two vectors of any level; the rest is the caller's promise.
            unsafe {
                let from = taps.as_ptr().cast::<f32>().add(c * WIDTH + v);
                let to = to.add(c * width + v);
                transform_tile_to::<V, FilterTransform, 3, 6>(
                    strided(from, 3 * GROUP * WIDTH, GROUP * WIDTH),
                    to,
                    place,
                );
            }
        }
    }
}
