//! Launches of the project's kernels: prepared once, with checked arguments and launch sizes.
//!
//! What must hold: whoever prepares a launch says how many bytes the kernel touches in each span; a run refuses a span
//! of any other length, and then neither allocates on the device nor waits, so that it can be captured.

mod rows;
mod tensors;

use std::sync::Arc;

use bytemuck::Pod;
use cudarc::driver::LaunchConfig;

use super::driver::{Arg, Buffer, Gpu, Kernel, POINTERS, Pointers};
use super::error::GpuError;
pub(crate) use crate::dtype::Float;
use crate::memory::Span;
pub(crate) use rows::Rows;
pub(crate) use tensors::Tensors;

/// Threads per block in most kernels (`JEMPP_BLOCK`).
pub(crate) const BLOCK: usize = 256;
const WARP: usize = 32;
const WARPS_PER_BLOCK: usize = 4;
/// The most blocks along one axis for kernels that work with a grid of any size (grid-stride loops).
const MAX_BLOCKS: usize = 1 << 16;
/// Float32 elements in a 16-byte vector.
pub(crate) const PACK: usize = 4;

impl Float {
    /// Elements in a 16-byte vector (`Wide` in `cuda/common.cuh`).
    pub(crate) fn pack(self) -> usize {
        16 / self.size()
    }

    /// A parameter for a span of exactly `n` values of this type.
    pub(crate) fn span_of(self, what: &'static str, n: usize) -> Param {
        Param::Span(what, n.saturating_mul(self.size()))
    }

    /// A parameter for a span of exactly `n` values of this type, or for a null pointer.
    pub(crate) fn optional(self, what: &'static str, n: usize) -> Param {
        Param::Optional(what, n.saturating_mul(self.size()))
    }

    /// The argument for a span, which must hold exactly `n` values of this type.
    pub(crate) fn exact(self, what: &'static str, span: Span<'_>, n: usize) -> Result<Arg, GpuError> {
        exact::<u8>(what, span, n.saturating_mul(self.size()))
    }
}

/// The name of a kernel for an element type: `…_f32` or `…_bf16`.
macro_rules! kernel {
    ($float:expr, $name:literal) => {
        match $float {
            $crate::dtype::Float::F32 => concat!($name, "_f32"),
            $crate::dtype::Float::Bf16 => concat!($name, "_bf16"),
        }
    };
}
pub(crate) use kernel;

/// The argument for a span, which must hold exactly `n` values of type `T`.
pub(crate) fn exact<T>(what: &'static str, span: Span<'_>, n: usize) -> Result<Arg, GpuError> {
    if n.checked_mul(size_of::<T>()) != Some(span.len()) {
        let reason = format!("{} bytes for {n} values of {} bytes", span.len(), size_of::<T>());
        return Err(GpuError::shape(what, reason));
    }
    Ok(Arg::Pointer(span.address()))
}

/// What a prepared launch passes to its kernel for one parameter.
#[derive(Clone, Debug)]
pub(crate) enum Param {
    /// The next span of a run, by name, which must be given and hold this many bytes.
    Span(&'static str, usize),
    /// The next span of a run, by name: this many bytes, or `None` for a null pointer.
    Optional(&'static str, usize),
    /// A value that is the same at every run.
    Value(Arg),
    /// A table of constants on the device.
    Table(Arc<Buffer<u8>>),
    /// Addresses for which the next spans of a run are given, or which are null, as one argument.
    Pointers(Vec<Param>),
}

/// A parameter for a span of exactly `n` values of type `T`.
pub(crate) fn span_of<T>(what: &'static str, n: usize) -> Param {
    Param::Span(what, n.saturating_mul(size_of::<T>()))
}

/// A `long long` parameter.
pub(crate) fn i64(n: usize) -> Param {
    Param::Value(Arg::I64(n as i64))
}

/// An `int` parameter.
pub(crate) fn i32(n: i32) -> Param {
    Param::Value(Arg::I32(n))
}

/// An `unsigned` parameter.
pub(crate) fn u32(n: u32) -> Param {
    Param::Value(Arg::U32(n))
}

/// A `float` parameter.
pub(crate) fn f32(x: f64) -> Param {
    Param::Value(Arg::F32(x as f32))
}

/// A `double` parameter.
pub(crate) fn f64(x: f64) -> Param {
    Param::Value(Arg::F64(x))
}

/// A null pointer parameter.
pub(crate) const NULL: Param = Param::Value(Arg::NULL);

/// A parameter for a table of constants, which is uploaded now.
pub(crate) fn table<T: Pod>(gpu: &Gpu, values: &[T]) -> Result<Param, GpuError> {
    Ok(Param::Table(Arc::new(gpu.upload(bytemuck::cast_slice::<T, u8>(values))?)))
}

/// A kernel with its launch size and all its arguments but the spans.
#[derive(Debug)]
pub struct Launch {
    name: &'static str,
    kernel: Kernel,
    size: LaunchConfig,
    params: Vec<Param>,
}

impl Launch {
    /// Prepares a launch of the kernel `name` of the file `op.cu`.
    ///
    /// # Safety
    /// `params` must match the kernel's parameters in order and type; and at this launch size, with these values, the kernel
    /// must not access anything outside the spans, as long as `params` says, and the tables.
    ///
    /// # Errors
    /// Errors of compiling and loading.
    pub(crate) unsafe fn new(
        gpu: &Gpu,
        op: &'static str,
        name: &'static str,
        size: LaunchConfig,
        params: Vec<Param>,
    ) -> Result<Self, GpuError> {
        Ok(Self { name, kernel: gpu.kernel(op, name)?, size, params })
    }

    /// Submits one run, with the spans in the order of the kernel's parameters.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when a span is missing, left over, or of another length than was prepared for; a driver
    /// error.
    pub fn run(&self, gpu: &Gpu, spans: &[Option<Span<'_>>]) -> Result<(), GpuError> {
        let mut spans = spans.iter().copied();
        let args = self.params.iter().map(|param| self.arg(gpu, param, &mut spans));
        let args = args.collect::<Result<Vec<_>, _>>()?;
        if spans.next().is_some() {
            return Err(GpuError::shape(self.name, "too many spans"));
        }
        // SAFETY: whoever prepared the launch guarantees the parameters, given the lengths just checked; spans and
        // tables are of live buffers.
        unsafe { gpu.launch(&self.kernel, self.size, &args) }
    }

    /// The argument for a parameter, for which `spans` are taken if it needs any.
    fn arg<'s>(
        &self,
        gpu: &Gpu,
        param: &Param,
        spans: &mut impl Iterator<Item = Option<Span<'s>>>,
    ) -> Result<Arg, GpuError> {
        Ok(match param {
            Param::Value(arg) => arg.clone(),
            Param::Table(buffer) => Arg::Pointer(gpu.pointer(buffer)?),
            Param::Span(what, bytes) => self.span(what, *bytes, spans.next().flatten())?,
            Param::Optional(what, bytes) => match spans.next() {
                Some(Some(span)) => self.span(what, *bytes, Some(span))?,
                Some(None) => Arg::NULL,
                None => return Err(GpuError::shape(self.name, format!("{what} is not given"))),
            },
            Param::Pointers(list) => {
                let mut all = Pointers([0; POINTERS]);
                if list.len() > POINTERS {
                    return Err(GpuError::shape(self.name, "too many addresses"));
                }
                for (at, param) in all.0.iter_mut().zip(list) {
                    match self.arg(gpu, param, spans)? {
                        Arg::Pointer(address) => *at = address,
                        other => return Err(GpuError::shape(self.name, format!("{other:?} is no address"))),
                    }
                }
                Arg::Pointers(Box::new(all))
            }
        })
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

fn config(x: usize, y: usize, z: usize, block: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (x as u32, y as u32, z as u32),
        block_dim: (block as u32, 1, 1),
        shared_mem_bytes: 0,
    }
}

/// Blocks of [`BLOCK`] threads, with about one thread for each of `n` items.
pub(crate) fn threads(n: usize) -> LaunchConfig {
    config(n.div_ceil(BLOCK).clamp(1, MAX_BLOCKS), 1, 1, BLOCK)
}

/// As [`threads`] for each of `rows` rows of blocks (the grid's y axis).
pub(crate) fn threads_per_row(n: usize, rows: usize) -> LaunchConfig {
    config(n.div_ceil(BLOCK).clamp(1, MAX_BLOCKS), rows.clamp(1, 65_535), 1, BLOCK)
}

/// Exactly `x` × `y` blocks of `block` threads each.
pub(crate) fn blocks(x: usize, y: usize, block: usize) -> LaunchConfig {
    config(x, y, 1, block)
}

/// One warp for each of `rows` rows.
pub(crate) fn warps(rows: usize) -> LaunchConfig {
    config(rows.div_ceil(WARPS_PER_BLOCK).clamp(1, MAX_BLOCKS), 1, 1, WARP * WARPS_PER_BLOCK)
}

/// Blocks of 32 × 32 threads, one lane per channel, for each of `groups` groups: the last step of reductions.
pub(crate) fn final_sums(c: usize, groups: usize) -> LaunchConfig {
    config(c.div_ceil(WARP), groups, 1, WARP * WARP)
}

#[cfg(test)]
mod tests;
