//! `out[r] = log Σ_c exp(x[r, c])` on a device. See `cuda/logsumexp.cu` for what infinities and NaN give.

use cudarc::driver::LaunchConfig;

use super::context::{Arg, Buffer, Gpu, Kernel};
use super::error::GpuError;
use super::nvrtc::{Compiler, Image};

/// The name of the source.
pub const FILE: &str = "logsumexp.cu";
/// The source.
pub const SOURCE: &str = include_str!("../../cuda/logsumexp.cu");

const WARP: usize = 32;
const ROWS_A_BLOCK: usize = 4;
/// More rows than this many blocks take are shared out among them.
const MOST_BLOCKS: usize = 1 << 16;

/// The kernel, loaded.
#[derive(Clone, Debug)]
pub struct Logsumexp {
    rows: Kernel,
}

impl Logsumexp {
    /// Compiles the kernel for a device and loads it there; the image is for its target and log.
    ///
    /// # Errors
    /// [`GpuError::Compile`], or what the driver answers.
    pub fn new(gpu: &Gpu, compiler: &Compiler) -> Result<(Self, Image), GpuError> {
        let image = compiler.compile(FILE, SOURCE, gpu.device().compute_capability)?;
        let rows = gpu.load(&image, "logsumexp_rows_f32")?;
        Ok((Self { rows }, image))
    }

    /// Computes the `rows` results of the row-major `rows × cols` matrix `x` into `out`.
    ///
    /// # Errors
    /// [`GpuError::Shape`] when the lengths do not fit; what the driver answers.
    pub fn run(
        &self,
        gpu: &Gpu,
        x: &Buffer<f32>,
        out: &mut Buffer<f32>,
        rows: usize,
        cols: usize,
    ) -> Result<(), GpuError> {
        if rows.checked_mul(cols) != Some(x.len()) || out.len() != rows {
            let reason = format!("{rows} × {cols} of a buffer of {} into one of {}", x.len(), out.len());
            return Err(GpuError::shape("logsumexp", reason));
        }
        if rows == 0 {
            return Ok(());
        }
        let blocks = rows.div_ceil(ROWS_A_BLOCK).min(MOST_BLOCKS);
        let size = LaunchConfig {
            grid_dim: (blocks as u32, 1, 1),
            block_dim: ((WARP * ROWS_A_BLOCK) as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        let args = [
            Arg::Pointer(gpu.pointer(x)?),
            Arg::Pointer(gpu.pointer(out)?),
            Arg::I64(rows as i64),
            Arg::I64(cols as i64),
        ];
        // SAFETY: the arguments are the kernel's, in order and type; it reads rows × cols floats of `x` and writes
        // rows floats of `out`, and the lengths are checked above. The block is whole warps, as it needs.
        unsafe { gpu.launch(&self.rows, size, &args) }
    }
}
