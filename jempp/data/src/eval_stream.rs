//! How evaluations divide the random stream [`crate::streams::EVAL`] among them.
//!
//! The step of a draw is one of these offsets plus the number of an image or of a bootstrap replicate, both below 2²⁴. Blocks
//! from 16 on belong to adversarial attacks.

const fn block(i: u32) -> u32 {
    i << 24
}
/// The order of an image's pixels in the set of shuffled pixels.
pub const SHUFFLED: u32 = block(1);
/// Images of uniform noise.
pub const UNIFORM: u32 = block(2);
/// Images of Gaussian noise.
pub const GAUSSIAN: u32 = block(3);
/// Images of one constant colour.
pub const CONSTANT: u32 = block(4);
/// The order in which images are paired for interpolation.
pub const INTERPOLATED: u32 = block(5);
/// Noise added to images before they are scored.
pub const NOISE: u32 = block(6);
/// Bootstrap replicates.
pub const BOOTSTRAP: u32 = block(7);
/// The choice of images where not all are evaluated.
pub const SUBSET: u32 = block(8);
