//! 3×3 convolutions of stride 1 with a quarter of the multiplications: Winograd's minimal filtering, F(4×4, 3×3)
//! forward and for the input gradient, F(3×3, 4×4) for the filters' gradient.
//!
//! A tile of 6×6 inputs gives 4×4 outputs: y = Aᵀ[(Bᵀ x B) ⊙ (G w Gᵀ)]A (Lavin and Gray, "Fast algorithms for
//! convolutional neural networks", 2016). Summed over channels the product ⊙ is one matrix product for each of the 36
//! positions of a transformed tile. Chunks of tiles are transformed, multiplied and transformed back while they are in
//! the second-level cache.
//!
//! Invariants: a tile's result depends on its image only, never on the chunk that it is in; whether this algorithm is
//! used depends on the shape only.

mod block;
mod conv;
mod filters;
mod many_channels;
mod product;
mod tiles;
mod transforms;
mod weight_grad;

pub(super) use conv::Winograd;
pub(super) use weight_grad::{WinogradGrad, sum_shards};

use crate::conv_shape::ConvShape;

/// Places of a transformed tile.
const POSITIONS: usize = 36;
/// Width of a tile of outputs, and of the inputs it needs.
const OUT: usize = 4;
const IN: usize = 6;

/// A pointer that several tasks use.
#[derive(Clone, Copy)]
struct Shared(*mut f32);
// SAFETY: tasks write disjoint elements; the code that makes one says why.
unsafe impl Sync for Shared {}
impl Shared {
    fn get(&self) -> *mut f32 {
        self.0
    }
}

/// The least input channels for which outputs are faster this way, and the least channels of either side for which
/// filter gradients are: with few channels the transforms cost more than the products save. With one thread of AVX-512
/// on 16×16 pixels 8 → 8 channels gain 1.1, 8 → 16 1.05, 12 → 12 1.4 and 4 → 16 0.7; gradients of 8 × 16 1.0, of 12 ×
/// 12 1.3, of 16 × 4 0.8.
pub(super) const DEPTH: usize = 8;
pub(super) const DEPTH_GRAD: usize = 12;

/// Whether outputs of `oh × ow` from `depth` channels, of which there must be at least `least`, are faster this way:
/// tiles that are mostly padding multiply zeros (5×5 pixels, of 8×8, still gain 1.2; 2×2, of 4×4, 0.7).
pub(super) fn pays(s: &ConvShape, (oh, ow): (usize, usize), depth: usize, least: usize) -> bool {
    let filled = 8 * oh * ow >= 3 * oh.next_multiple_of(OUT) * ow.next_multiple_of(OUT);
    possible(s) && filled && depth >= least
}

/// Whether a convolution can be computed this way at all.
pub(super) fn possible(s: &ConvShape) -> bool {
    (s.r, s.s, s.stride) == (3, 3, 1) && s.pad <= 2
}
