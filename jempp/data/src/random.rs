//! The uses of [`crate::streams::EVAL`]: a step is one of these plus the number of an image or a replicate, both
//! below 2²⁴. Blocks from 16 on are those of attacks.

const fn block(i: u32) -> u32 {
    i << 24
}
/// Pixels in an order of their own.
pub const SHUFFLED: u32 = block(1);
/// Uniform noise images.
pub const UNIFORM: u32 = block(2);
/// Normal noise images.
pub const GAUSSIAN: u32 = block(3);
/// Images of one colour.
pub const CONSTANT: u32 = block(4);
/// The order in which images are paired.
pub const INTERPOLATED: u32 = block(5);
/// Noise added to images.
pub const NOISE: u32 = block(6);
/// Bootstrap replicates.
pub const BOOTSTRAP: u32 = block(7);
/// The images that are evaluated when not all are.
pub const SUBSET: u32 = block(8);
