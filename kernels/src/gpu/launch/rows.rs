//! Launches over the rows of a matrix in groups: tiles of channels, chunks of rows.

use super::{BLOCK, MAX_BLOCKS, Param, config, int, table};
use crate::dtype::Float;
use crate::gpu::driver::Gpu;
use crate::gpu::error::GpuError;
use cudarc::driver::LaunchConfig;

/// Blocks on a multiprocessor at once: kernels over rows take up to 80 registers a thread.
const RESIDENT: usize = 3;

/// How blocks step through the rows of a matrix of `c` channels: see `cuda/rows.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    /// Tiles of channels, one block each.
    pub(crate) tiles: usize,
    /// Rows that a block takes at once.
    pub(crate) rows: usize,
}

impl Tiling {
    pub(crate) fn of(float: Float, c: usize) -> Self {
        let pack = float.pack();
        let packs = if c.is_multiple_of(pack) { c / pack } else { c }.max(1);
        let tiles = packs.div_ceil(BLOCK);
        Self { tiles, rows: BLOCK / packs.div_ceil(tiles) }
    }
}

/// Consecutive groups of rows of a matrix, as launches need them.
#[derive(Debug)]
pub(crate) struct Rows {
    /// The first row of each group, and the number of rows at the end: a table on the device.
    pub(crate) bounds: Param,
    pub(crate) groups: usize,
    pub(crate) total: usize,
    largest: usize,
    pub(crate) c: usize,
    pub(crate) tiling: Tiling,
}

impl Rows {
    /// Groups of this many rows each, of `c` channels.
    pub(crate) fn new(gpu: &Gpu, float: Float, rows: &[usize], c: usize) -> Result<Self, GpuError> {
        if rows.is_empty() || rows.len() > 65_535 || c == 0 {
            return Err(GpuError::shape("groups of rows", format!("{} of {c} channels", rows.len())));
        }
        let mut bounds = vec![0];
        let mut total = 0;
        for n in rows {
            total += n;
            bounds.push(int("groups of rows", total)?);
        }
        int("groups of rows", c)?;
        let largest = rows.iter().copied().max().unwrap_or(0);
        let (groups, tiling) = (rows.len(), Tiling::of(float, c));
        Ok(Self { bounds: table(gpu, &bounds)?, groups, total, largest, c, tiling })
    }

    /// Number of values of the matrix.
    pub(crate) fn len(&self) -> usize {
        self.total * self.c
    }

    /// Number of values of one statistic: one per group and channel.
    pub(crate) fn stats(&self) -> usize {
        self.groups * self.c
    }

    /// Number of chunks of the largest group.
    pub(crate) fn chunks(&self, chunk_rows: usize) -> usize {
        self.largest.div_ceil(chunk_rows).max(1)
    }

    /// One block for each chunk, group and tile.
    pub(crate) fn chunk_blocks(&self, chunks: usize) -> LaunchConfig {
        config(chunks.clamp(1, MAX_BLOCKS), self.groups, self.tiling.tiles, BLOCK)
    }

    /// As many blocks as run at once, for kernels that distribute rows over a grid of any size: each loads its channels'
    /// coefficients once, for many rows.
    pub(crate) fn fill_device(&self, gpu: &Gpu) -> LaunchConfig {
        let steps = self.largest.div_ceil(self.tiling.rows).max(1);
        let full = RESIDENT * gpu.device().multiprocessors as usize;
        let most = full.div_ceil(self.groups * self.tiling.tiles).max(1);
        config(steps.min(most), self.groups, self.tiling.tiles, BLOCK)
    }
}
