//! 3×3 convolutions of stride 1 with a quarter of the multiplications: Winograd's minimal filtering, F(4×4, 3×3)
//! forward and for the input gradient, F(3×3, 4×4) for the filters' gradient.
//!
//! A tile of 6×6 inputs gives 4×4 outputs: y = Aᵀ[(Bᵀ x B) ⊙ (G w Gᵀ)]A (Lavin and Gray, "Fast algorithms for
//! convolutional neural networks", 2016). Summed over channels the product ⊙ is one matrix product for each of the 36
//! places of a transformed tile. Chunks of tiles are transformed, multiplied and transformed back while they lie in
//! the second-level cache.
//!
//! Invariants: what is computed for a tile depends on its image only, never on the chunk it falls in; shapes alone
//! decide what is done this way.

mod filters;
mod gather;
mod grad;
mod points;
mod product;

pub(super) use gather::Winograd;
pub(super) use grad::{WinogradGrad, add_up};

use super::{ConvShape, Norm, Simd};

/// Places of a transformed tile.
const PLACES: usize = 36;
/// Width of a tile of outputs, and of the inputs it needs.
const OUT: usize = 4;
const IN: usize = 6;

/// A pointer that tasks share.
#[derive(Clone, Copy)]
struct Shared(*mut f32);
// SAFETY: tasks write disjoint elements; whoever makes one says why.
unsafe impl Sync for Shared {}
impl Shared {
    fn get(&self) -> *mut f32 {
        self.0
    }
}

/// Whether outputs of `oh × ow` from `depth` channels are cheaper this way: transforms are dear beside a product of few
/// channels, and tiles that are mostly empty multiply zeros.
pub(super) fn pays(s: &ConvShape, (oh, ow): (usize, usize), depth: usize) -> bool {
    let filled = 2 * oh * ow >= oh.next_multiple_of(OUT) * ow.next_multiple_of(OUT);
    possible(s) && filled && depth >= 8
}

/// Whether a convolution can be formed this way.
pub(super) fn possible(s: &ConvShape) -> bool {
    (s.r, s.s, s.stride) == (3, 3, 1) && s.pad <= 2
}

/// Images and a slice of their channels, of which rows are copied with zeros around them.
#[derive(Clone, Copy, Debug)]
struct Slice {
    h: usize,
    w: usize,
    c: usize,
    /// The first channel, how many, and how many there are room for.
    first: usize,
    len: usize,
    room: usize,
}

impl Slice {
    /// Copies `columns` columns of rows `top..` of an image to fill `to`, `left` columns of them zeros, normalised if
    /// there is a norm; zeros outside the image and beyond the channels.
    fn rows(
        &self,
        simd: Simd,
        (src, norm, image): (&[f32], Option<&Norm<'_, f32>>, usize),
        (top, left, columns): (isize, usize, usize),
        to: &mut [f32],
    ) {
        let size = self.h * self.w * self.c;
        let src = &src[image * size..(image + 1) * size];
        for (y, to) in to.chunks_exact_mut(columns * self.room).enumerate() {
            let y = top + y as isize;
            if y < 0 || y >= self.h as isize {
                to.fill(0.0);
                continue;
            }
            let from = &src[y as usize * self.w * self.c..][..self.w * self.c];
            let used = self.w.min(columns - left);
            let (before, rest) = to.split_at_mut(left * self.room);
            let (to, after) = rest.split_at_mut(used * self.room);
            before.fill(0.0);
            after.fill(0.0);
            if self.room == self.c {
                to.copy_from_slice(&from[..used * self.c]);
                if let Some(norm) = norm {
                    norm.apply(simd, image, 0..self.c, to);
                }
                continue;
            }
            for (to, from) in to.chunks_exact_mut(self.room).zip(from.chunks_exact(self.c)) {
                let (to, after) = to.split_at_mut(self.len);
                to.copy_from_slice(&from[self.first..][..self.len]);
                if let Some(norm) = norm {
                    norm.apply(simd, image, self.first..self.first + self.len, to);
                }
                after.fill(0.0);
            }
        }
    }
}
