//! Launches over the elements of many tensors at once.

use super::{BLOCK, MAX_BLOCKS, Param, config, i32, int, table};
use crate::gpu::driver::{Gpu, POINTERS};
use crate::gpu::error::GpuError;
use cudarc::driver::LaunchConfig;

/// Elements of a tile, which a block takes at once (`JEMPP_TILE`).
const TILE: usize = 4096;

/// Some of the tensors that one launch takes, and how their elements are cut into tiles: see `each_quad_of_tensors` in
/// `cuda/common.cuh`.
#[derive(Debug)]
pub(crate) struct Tensors {
    /// The first tile of each tensor, and the number of tiles; sizes; number of tensors.
    pub(crate) params: [Param; 3],
    pub(crate) size: LaunchConfig,
}

impl Tensors {
    /// How many tensors with `each` addresses one launch can take.
    pub(crate) fn most(each: usize) -> usize {
        POINTERS / each
    }

    /// Tensors of these sizes.
    pub(crate) fn new(gpu: &Gpu, sizes: &[usize]) -> Result<Self, GpuError> {
        let (mut first, mut tiles) = (vec![0], 0);
        for n in sizes {
            tiles += n.div_ceil(TILE);
            first.push(int("tiles", tiles)?);
        }
        let lengths: Vec<i64> = sizes.iter().map(|n| *n as i64).collect();
        let params = [table(gpu, &first)?, table(gpu, &lengths)?, i32(int("tensors", sizes.len())?)];
        Ok(Self { params, size: config(tiles.clamp(1, MAX_BLOCKS), 1, 1, BLOCK) })
    }
}
