//! Transforming filters.

use super::POSITIONS;
use super::transforms::{FilterTransform, strided, transform_tile_to};
use crate::cpu::vector::Arithmetic;

/// The memory layout of transformed filters: blocks of output channels, each `[36, depth, width]` with padding after
/// each position, so that positions do not map to the same cache sets. All blocks are two vectors wide; the last one
/// may be one vector wide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub lanes: usize,
    pub depth: usize,
    pub k: usize,
}

impl Layout {
    pub(super) fn blocks(&self) -> usize {
        self.k.div_ceil(2 * self.lanes)
    }
    /// Vectors of block `b`.
    pub(super) fn vectors(&self, b: usize) -> usize {
        (self.k - b * 2 * self.lanes).div_ceil(self.lanes).min(2)
    }
    /// Elements of a position, of a block that is this many vectors wide.
    pub(super) fn position_len(&self, vectors: usize) -> usize {
        (self.depth * vectors + 1) * self.lanes
    }
    /// Where block `b` starts.
    pub(super) fn at(&self, b: usize) -> usize {
        b * POSITIONS * self.position_len(2)
    }
    pub(super) fn len(&self) -> usize {
        let last = self.blocks() - 1;
        self.at(last) + POSITIONS * self.position_len(self.vectors(last))
    }
}

/// Input channels that a task transforms.
pub(super) const GROUP: usize = 16;
/// The most output channels of a block.
const WIDTH: usize = 32;

/// Transforms input channels `GROUP·group..` of block `b` to `to`, `position` elements from one position to the next.
/// `w` are filters of `[k, 3, 3, depth]`; if `flipped`, `[depth, 3, 3, k]`, to be rotated by 180°.
///
/// # Safety
/// The instruction set of `V` is present; `[channels, width of the block]` is writable at each of 36 positions.
#[inline(always)]
pub(super) unsafe fn transform<V: Arithmetic>(
    layout: &Layout,
    w: &[f32],
    flipped: bool,
    (b, group): (usize, usize),
    (to, position): (*mut f32, usize),
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
            // SAFETY: taps are as wide as two vectors of any level; the rest the caller guarantees.
            unsafe {
                let from = taps.as_ptr().cast::<f32>().add(c * WIDTH + v);
                let to = to.add(c * width + v);
                transform_tile_to::<V, FilterTransform, 3, 6>(
                    strided(from, 3 * GROUP * WIDTH, GROUP * WIDTH),
                    to,
                    position,
                );
            }
        }
    }
}
