//! The CUDA kernels: `cuda/scale_shift_leaky.cu`.

use super::Grouped;
use crate::gpu::launch::{Float, Launch, NULL, Param, Rows, f32, final_sums, i32, int, kernel, span_of};
use crate::gpu::{Gpu, GpuError};
use crate::memory::Span;

/// A shape on a device, and whether mean and scale are shared by all groups.
struct Given {
    rows: Rows,
    stats: usize,
    c: Param,
    per_group: Param,
}

impl Given {
    fn new(gpu: &Gpu, float: Float, shape: &Grouped, shared: bool) -> Result<Self, GpuError> {
        let rows = Rows::new(gpu, float, &shape.rows_per_group(), shape.c)?;
        let c = int("scale_shift_leaky", rows.c)?;
        let stats = if shared { rows.c } else { rows.stats() };
        Ok(Self { rows, stats, c: i32(c), per_group: i32(if shared { 0 } else { c }) })
    }

    /// mean, scale, shift.
    fn coefficients(&self) -> [Param; 3] {
        [
            span_of::<f32>("mean", self.stats),
            span_of::<f32>("scale", self.stats),
            span_of::<f32>("shift", self.rows.c),
        ]
    }
}

/// y from x. `shared`: mean and scale are `[c]`, else `[groups, c]`. Spans: x, mean, scale, shift, y.
///
/// # Errors
/// Errors of compiling and loading the kernel.
pub fn forward(
    gpu: &Gpu,
    float: Float,
    shape: &Grouped,
    shared: bool,
    leak: f64,
) -> Result<Launch, GpuError> {
    let g = Given::new(gpu, float, shape, shared)?;
    let n = g.rows.len();
    let mut params = vec![float.span_of("x", n)];
    params.extend(g.coefficients());
    params.extend([
        g.rows.bounds.clone(),
        g.c.clone(),
        g.per_group.clone(),
        f32(leak),
        float.span_of("y", n),
    ]);
    let (name, size) = (kernel!(float, "scale_shift_leaky"), g.rows.fill_device(gpu));
    // SAFETY: the kernel reads the rows that the bounds name, which are all of x, and the coefficients of each group
    // (at 0 for all where they are shared); it writes as many rows.
    unsafe { Launch::new(gpu, "scale_shift_leaky", name, size, params) }
}

/// dx. `stats`: with the gradient through the statistics. Spans: x, dy, mean, scale, shift; with it dmean
/// and dvar; what to add (optional); dx.
///
/// # Errors
/// If statistics are shared and have a gradient; errors of compiling and loading the kernel.
pub fn grad(
    gpu: &Gpu,
    float: Float,
    shape: &Grouped,
    shared: bool,
    stats: bool,
    leak: f64,
) -> Result<Launch, GpuError> {
    if shared && stats {
        return Err(GpuError::shape("scale_shift_leaky", "shared statistics have no gradient of their own"));
    }
    let g = Given::new(gpu, float, shape, shared)?;
    let n = g.rows.len();
    let stat = |what| if stats { span_of::<f32>(what, g.rows.stats()) } else { NULL };
    let mut params = vec![float.span_of("x", n), float.span_of("dy", n)];
    params.extend(g.coefficients());
    params.extend([stat("dmean"), stat("dvar"), float.optional("add", n)]);
    params.extend([
        g.rows.bounds.clone(),
        g.c.clone(),
        g.per_group.clone(),
        f32(leak),
        float.span_of("dx", n),
    ]);
    let (name, size) = (kernel!(float, "scale_shift_leaky_grad"), g.rows.fill_device(gpu));
    // SAFETY: as the forward pass; dmean and dvar are [groups, c], or both null, and then read by no one.
    unsafe { Launch::new(gpu, "scale_shift_leaky", name, size, params) }
}

/// Σ dz·(x − mean) and Σ dz of chunks of rows, which another kernel adds.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Spans: x, dy, mean, scale, shift, the parts.
    pub(crate) launch: Launch,
    pub(crate) rows: Rows,
    pub(crate) chunks: i32,
    pub(crate) chunk_rows: i32,
    /// Number of parts.
    pub(crate) len: usize,
}

/// Chunks of all groups and tiles together, at most about: three for each multiprocessor of a large device.
const CHUNKS: usize = 400;
/// Steps of a chunk, so that coefficients are loaded and sums written seldom, but not so many that sums lose digits.
const STEPS: core::ops::RangeInclusive<usize> = 4..=32;

impl Parts {
    pub(crate) fn new(
        gpu: &Gpu,
        float: Float,
        shape: &Grouped,
        shared: bool,
        leak: f64,
    ) -> Result<Self, GpuError> {
        let g = Given::new(gpu, float, shape, shared)?;
        let steps = g.rows.total.div_ceil(g.rows.tiling.rows) * g.rows.tiling.tiles;
        let chunk_rows = g.rows.tiling.rows * steps.div_ceil(CHUNKS).clamp(*STEPS.start(), *STEPS.end());
        let chunks = g.rows.chunks(chunk_rows);
        let len = g.rows.groups * chunks * 2 * g.rows.c;
        let (count, size) = (int("scale_shift_leaky", chunks)?, int("scale_shift_leaky", chunk_rows)?);
        let mut params = vec![float.span_of("x", g.rows.len()), float.span_of("dy", g.rows.len())];
        params.extend(g.coefficients());
        params.extend([g.rows.bounds.clone(), g.c.clone(), g.per_group.clone(), f32(leak)]);
        params.extend([i32(count), i32(size), span_of::<f32>("parts", len)]);
        let (name, grid) = (kernel!(float, "scale_shift_leaky_sums"), g.rows.chunk_blocks(chunks));
        // SAFETY: as the forward pass; the kernel writes 2·c parts for each group and chunk.
        let launch = unsafe { Launch::new(gpu, "scale_shift_leaky", name, grid, params)? };
        Ok(Self { launch, rows: g.rows, chunks: count, chunk_rows: size, len })
    }
}

/// `dscale[g, c]` = Σ dz·(x − mean) and `dshift[g, c]` = Σ dz.
#[derive(Debug)]
pub struct Reduce {
    parts: Parts,
    last: Launch,
}

/// What [`Reduce::run`] reads.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Inputs<'a> {
    pub x: Span<'a>,
    pub dy: Span<'a>,
    pub mean: Span<'a>,
    pub scale: Span<'a>,
    pub shift: Span<'a>,
}

impl Reduce {
    /// Prepares it for a shape.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn new(gpu: &Gpu, float: Float, shape: &Grouped, shared: bool, leak: f64) -> Result<Self, GpuError> {
        let parts = Parts::new(gpu, float, shape, shared, leak)?;
        let (rows, stats) = (&parts.rows, parts.rows.stats());
        let params = vec![
            span_of::<f32>("parts", parts.len),
            rows.bounds.clone(),
            i32(int("scale_shift_leaky", rows.c)?),
            i32(parts.chunks),
            i32(parts.chunk_rows),
            span_of::<f32>("dscale", stats),
            span_of::<f32>("dshift", stats),
        ];
        let (op, grid) = ("scale_shift_leaky", final_sums(rows.c, rows.groups));
        // SAFETY: the kernel reads the parts that the first wrote and writes groups × c sums; the block is 32 × 32.
        let last = unsafe { Launch::new(gpu, op, "scale_shift_leaky_sums_final", grid, params)? };
        Ok(Self { parts, last })
    }

    /// Bytes of workspace.
    pub fn workspace(&self) -> usize {
        self.parts.len * size_of::<f32>()
    }

    /// Submits one run.
    ///
    /// # Errors
    /// If lengths do not fit; a driver error.
    pub fn run(
        &self,
        gpu: &Gpu,
        from: Inputs<'_>,
        (dscale, dshift): (Span<'_>, Span<'_>),
        workspace: Span<'_>,
    ) -> Result<(), GpuError> {
        let Inputs { x, dy, mean, scale, shift } = from;
        self.parts.launch.run(gpu, &[x, dy, mean, scale, shift, workspace].map(Some))?;
        self.last.run(gpu, &[workspace, dscale, dshift].map(Some))
    }
}
