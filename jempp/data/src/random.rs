//! Uses of the random stream [`crate::streams::EVAL`]. A step is one of these constants plus the index of an image or
//! of a bootstrap replicate, which is below 2²⁴. Blocks from 16 on are reserved for attacks.

const fn block(i: u32) -> u32 {
    i << 24
}
/// Permutations of pixels.
pub(crate) const SHUFFLED: u32 = block(1);
/// Images of uniform noise.
pub(crate) const UNIFORM: u32 = block(2);
/// Images of Gaussian noise.
pub(crate) const GAUSSIAN: u32 = block(3);
/// Images of a constant colour.
pub(crate) const CONSTANT: u32 = block(4);
/// Pairing of images for interpolation.
pub(crate) const INTERPOLATED: u32 = block(5);
/// Gaussian noise added to images.
pub const NOISE: u32 = block(6);
/// Bootstrap replicates.
pub const BOOTSTRAP: u32 = block(7);
/// Selection of a subset of images for evaluation.
pub const SUBSET: u32 = block(8);
