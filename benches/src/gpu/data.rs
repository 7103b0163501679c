//! Random values on a device, of which only a few are drawn.

use engine::bf16;
use engine::rng::{Philox, Stream};
use kernels::gpu::{Buffer, Float, Gpu, GpuError};

/// Number of values drawn; longer data repeat them. It is prime, so that the rows of a matrix begin at different ones.
const DRAWN: usize = 65_537;

/// `n` normal values of a type.
pub(super) fn random(gpu: &Gpu, float: Float, n: usize, seed: u32) -> Result<Buffer<u8>, GpuError> {
    let mut rng = Philox::new(31, Stream::TEST, seed);
    let drawn = (0..n.min(DRAWN)).map(|_| rng.normal());
    let bytes: Vec<u8> = match float {
        Float::F32 => drawn.flat_map(f32::to_ne_bytes).collect(),
        Float::Bf16 => drawn.flat_map(|v| bf16::from_f32(v).to_ne_bytes()).collect(),
    };
    gpu.repeated(&bytes, n * float.size())
}
