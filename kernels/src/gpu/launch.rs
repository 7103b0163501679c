//! What the CUDA arms share: prepared launches, checked arguments and the sizes of launches.
//!
//! What must hold: whoever prepares a launch says how many values the kernel touches in each span; a run refuses a span
//! of any other length, and then neither allocates on the device nor waits, so that it can be captured.

use std::sync::Arc;

use bytemuck::Pod;
use cudarc::driver::LaunchConfig;

use super::context::{Arg, Buffer, Gpu, Kernel};
use super::error::GpuError;
use crate::memory::Span;
use crate::ops::channels::Grouped;

/// Threads of a block in most kernels (`JEMPP_BLOCK`).
pub(crate) const BLOCK: usize = 256;
const WARP: usize = 32;
const WARPS_A_BLOCK: usize = 4;
/// Kernels that share their work out over any grid get no more blocks than this.
const MOST_BLOCKS: usize = 1 << 16;
/// Elements of a 16-byte pack of float32.
pub(crate) const PACK: usize = 4;

/// Type of a kernel's activations; statistics, coefficients and sums are float32 whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Float {
    /// Float32.
    #[default]
    F32,
    /// The upper half of a float32.
    Bf16,
}

impl Float {
    /// Bytes of an element.
    pub fn size(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// Elements of a 16-byte pack (`Wide`).
    pub(crate) fn pack(self) -> usize {
        16 / self.size()
    }

    /// A span of exactly `n` values of this type.
    pub(crate) fn of(self, what: &'static str, n: usize) -> Param {
        Param::Span(what, n.saturating_mul(self.size()))
    }

    /// A span of exactly `n` values of this type, or none.
    pub(crate) fn maybe(self, what: &'static str, n: usize) -> Param {
        Param::Maybe(what, n.saturating_mul(self.size()))
    }

    /// The argument for a span that holds exactly `n` values of this type.
    pub(crate) fn exact(self, what: &'static str, span: Span<'_>, n: usize) -> Result<Arg, GpuError> {
        exact::<u8>(what, span, n.saturating_mul(self.size()))
    }
}

/// The kernel of this name for a type of activations: `…_f32` or `…_bf16`.
macro_rules! kernel {
    ($float:expr, $name:literal) => {
        match $float {
            $crate::gpu::launch::Float::F32 => concat!($name, "_f32"),
            $crate::gpu::launch::Float::Bf16 => concat!($name, "_bf16"),
        }
    };
}
pub(crate) use kernel;

/// A span that holds exactly `n` values of type `T`.
pub(crate) fn exact<T>(what: &'static str, span: Span<'_>, n: usize) -> Result<Arg, GpuError> {
    if n.checked_mul(size_of::<T>()) != Some(span.len()) {
        let reason = format!("{} bytes for {n} values of {} bytes", span.len(), size_of::<T>());
        return Err(GpuError::shape(what, reason));
    }
    Ok(Arg::Pointer(span.address()))
}

/// What a prepared launch gives its kernel for one parameter.
#[derive(Clone, Debug)]
pub(crate) enum Param {
    /// The next span of a run, which must be there and hold so many bytes.
    Span(&'static str, usize),
    /// The next span of a run: so many bytes, or none and a null pointer.
    Maybe(&'static str, usize),
    /// The same at every run.
    Value(Arg),
    /// A table on the device.
    Table(Arc<Buffer<u8>>),
}

/// A span of exactly `n` values of type `T`.
pub(crate) fn of<T>(what: &'static str, n: usize) -> Param {
    Param::Span(what, n.saturating_mul(size_of::<T>()))
}

/// A span of exactly `n` values of type `T`, or none.
pub(crate) fn maybe<T>(what: &'static str, n: usize) -> Param {
    Param::Maybe(what, n.saturating_mul(size_of::<T>()))
}

/// A `long long`.
pub(crate) fn i64(n: usize) -> Param {
    Param::Value(Arg::I64(n as i64))
}

/// An `int`.
pub(crate) fn i32(n: i32) -> Param {
    Param::Value(Arg::I32(n))
}

/// An `unsigned`.
pub(crate) fn u32(n: u32) -> Param {
    Param::Value(Arg::U32(n))
}

/// A `float`.
pub(crate) fn f32(x: f64) -> Param {
    Param::Value(Arg::F32(x as f32))
}

/// A `double`.
pub(crate) fn f64(x: f64) -> Param {
    Param::Value(Arg::F64(x))
}

/// A null pointer.
pub(crate) const NULL: Param = Param::Value(Arg::NULL);

/// A table of constants.
pub(crate) fn table<T: Pod>(gpu: &Gpu, values: &[T]) -> Result<Param, GpuError> {
    Ok(Param::Table(Arc::new(gpu.upload(bytemuck::cast_slice::<T, u8>(values))?)))
}

/// A kernel with the size of its launch and its parameters but the spans.
#[derive(Debug)]
pub struct Launch {
    name: &'static str,
    kernel: Kernel,
    size: LaunchConfig,
    params: Vec<Param>,
}

impl Launch {
    /// Prepares a launch of the kernel `name` of the file `stem`.
    ///
    /// # Safety
    /// `params` must be what the kernel takes, in order and type; and at this size, with these values, it must touch
    /// nothing but so much of each span and table as they hold.
    ///
    /// # Errors
    /// What compiling and loading give.
    pub(crate) unsafe fn new(
        gpu: &Gpu,
        stem: &'static str,
        name: &'static str,
        size: LaunchConfig,
        params: Vec<Param>,
    ) -> Result<Self, GpuError> {
        Ok(Self { name, kernel: gpu.kernel(stem, name)?, size, params })
    }

    /// Asks for one run, with the spans in the order of the kernel's parameters.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when a span is missing, left over, or of another length than was prepared for; what the
    /// driver answers.
    pub fn run(&self, gpu: &Gpu, spans: &[Option<Span<'_>>]) -> Result<(), GpuError> {
        let mut spans = spans.iter().copied();
        let mut args = Vec::with_capacity(self.params.len());
        for param in &self.params {
            let arg = match param {
                Param::Value(arg) => *arg,
                Param::Table(buffer) => Arg::Pointer(gpu.pointer(buffer)?),
                Param::Span(what, bytes) => self.span(what, *bytes, spans.next().flatten())?,
                Param::Maybe(what, bytes) => match spans.next() {
                    Some(Some(span)) => self.span(what, *bytes, Some(span))?,
                    Some(None) => Arg::NULL,
                    None => return Err(GpuError::shape(self.name, format!("{what} is not given"))),
                },
            };
            args.push(arg);
        }
        if spans.next().is_some() {
            return Err(GpuError::shape(self.name, "too many spans"));
        }
        // SAFETY: whoever prepared the launch vouches for the parameters, given the lengths just checked; spans and
        // tables are of live buffers.
        unsafe { gpu.launch(&self.kernel, self.size, &args) }
    }

    fn span(&self, what: &str, bytes: usize, span: Option<Span<'_>>) -> Result<Arg, GpuError> {
        match span {
            Some(span) if span.len() == bytes => Ok(Arg::Pointer(span.address())),
            Some(span) => {
                Err(GpuError::shape(self.name, format!("{what} has {} bytes, not {bytes}", span.len())))
            }
            None => Err(GpuError::shape(self.name, format!("{what} is missing"))),
        }
    }
}

/// A size as a kernel's `int`.
pub(crate) fn int(what: &'static str, n: usize) -> Result<i32, GpuError> {
    i32::try_from(n).map_err(|_| GpuError::shape(what, format!("{n} is too large for it")))
}

fn size(x: usize, y: usize, z: usize, block: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (x as u32, y as u32, z as u32),
        block_dim: (block as u32, 1, 1),
        shared_mem_bytes: 0,
    }
}

/// Blocks of [`BLOCK`] threads for about one thread for each of `n` pieces of work.
pub(crate) fn threads(n: usize) -> LaunchConfig {
    size(n.div_ceil(BLOCK).clamp(1, MOST_BLOCKS), 1, 1, BLOCK)
}

/// The same for each of `rows` rows of blocks.
pub(crate) fn threads_by_row(n: usize, rows: usize) -> LaunchConfig {
    size(n.div_ceil(BLOCK).clamp(1, MOST_BLOCKS), rows.clamp(1, 65_535), 1, BLOCK)
}

/// Exactly `x` × `y` blocks of `block` threads.
pub(crate) fn blocks(x: usize, y: usize, block: usize) -> LaunchConfig {
    size(x, y, 1, block)
}

/// A warp for each of `rows` rows.
pub(crate) fn warps(rows: usize) -> LaunchConfig {
    size(rows.div_ceil(WARPS_A_BLOCK).clamp(1, MOST_BLOCKS), 1, 1, WARP * WARPS_A_BLOCK)
}

/// Blocks of 32 × 32 threads, a lane a channel, for each of `groups` groups.
pub(crate) fn finals(c: usize, groups: usize) -> LaunchConfig {
    size(c.div_ceil(WARP), groups, 1, WARP * WARP)
}

/// How blocks walk down a matrix of `c` channels: see `cuda/rows.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    pub(crate) tiles: usize,
    /// Rows of a block.
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

/// The rows of groups on a device, with what launches over them need.
#[derive(Debug)]
pub(crate) struct Rows {
    /// First row of each group, and the number of rows: a table on the device.
    pub(crate) bounds: Param,
    pub(crate) groups: usize,
    pub(crate) total: usize,
    largest: usize,
    pub(crate) c: usize,
    pub(crate) tiling: Tiling,
}

impl Rows {
    /// The groups of a shape.
    pub(crate) fn grouped(gpu: &Gpu, float: Float, shape: &Grouped) -> Result<Self, GpuError> {
        let rows: Vec<usize> = (0..shape.groups.len()).map(|g| shape.rows(g)).collect();
        Self::of(gpu, float, &rows, shape.c)
    }

    /// Groups of these numbers of rows.
    pub(crate) fn of(gpu: &Gpu, float: Float, rows: &[usize], c: usize) -> Result<Self, GpuError> {
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

    /// Values of the matrix.
    pub(crate) fn len(&self) -> usize {
        self.total * self.c
    }

    /// Values of one statistic.
    pub(crate) fn stats(&self) -> usize {
        self.groups * self.c
    }

    /// Chunks of the largest group.
    pub(crate) fn chunks(&self, chunk_rows: usize) -> usize {
        self.largest.div_ceil(chunk_rows).max(1)
    }

    /// A block for each chunk, group and tile.
    pub(crate) fn by_chunk(&self, chunks: usize) -> LaunchConfig {
        size(chunks.clamp(1, MOST_BLOCKS), self.groups, self.tiling.tiles, BLOCK)
    }

    /// Enough blocks to fill the device, for kernels that share rows out over any grid.
    pub(crate) fn shared_out(&self, gpu: &Gpu) -> LaunchConfig {
        let steps = self.largest.div_ceil(self.tiling.rows).max(1);
        let full = 16 * gpu.device().multiprocessors as usize;
        let most = full.div_ceil(self.groups * self.tiling.tiles).max(1);
        size(steps.min(most), self.groups, self.tiling.tiles, BLOCK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_channel() {
        for (float, c) in [Float::F32, Float::Bf16].into_iter().flat_map(|f| (1..5000).map(move |c| (f, c))) {
            let t = Tiling::of(float, c);
            let packs = if c % float.pack() == 0 { c / float.pack() } else { c };
            let width = packs.div_ceil(t.tiles);
            assert!(
                width <= BLOCK && width * t.tiles >= packs && t.rows >= 1 && t.rows * width <= BLOCK,
                "{float:?} {c}"
            );
        }
        assert_eq!(Tiling::of(Float::F32, 32), Tiling { tiles: 1, rows: 32 });
        assert_eq!(Tiling::of(Float::F32, 3), Tiling { tiles: 1, rows: 85 });
        assert_eq!(Tiling::of(Float::F32, 640), Tiling { tiles: 1, rows: 1 });
        assert_eq!(Tiling::of(Float::Bf16, 32), Tiling { tiles: 1, rows: 64 });
        assert_eq!(Tiling::of(Float::Bf16, 36), Tiling { tiles: 1, rows: 7 });
    }

    #[test]
    fn spans_must_be_exact() {
        let span = Span { address: 4096, len: 12, life: core::marker::PhantomData };
        assert!(matches!(exact::<f32>("x", span, 3), Ok(Arg::Pointer(4096))));
        assert!(exact::<f32>("x", span, 2).is_err() && exact::<f32>("x", span, usize::MAX).is_err());
        assert!(matches!(of::<f32>("x", 3), Param::Span("x", 12)));
        assert!(int("x", 1 << 31).is_err());
    }
}
