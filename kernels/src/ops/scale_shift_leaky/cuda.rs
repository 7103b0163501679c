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

/// `dscale[g, c]` = Σ dz·(x − mean) and `dshift[g, c]` = Σ dz.
#[derive(Debug)]
pub struct Reduce {
    parts: Launch,
    last: Launch,
    workspace: usize,
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
        let g = Given::new(gpu, float, shape, shared)?;
        let rows = &g.rows;
        let chunk_rows = 32 * rows.tiling.rows;
        let chunks = rows.chunks(chunk_rows);
        let n = rows.groups * chunks * 2 * rows.c;
        let (count, size) = (int("scale_shift_leaky", chunks)?, int("scale_shift_leaky", chunk_rows)?);
        let mut params = vec![float.span_of("x", rows.len()), float.span_of("dy", rows.len())];
        params.extend(g.coefficients());
        params.extend([rows.bounds.clone(), g.c.clone(), g.per_group.clone(), f32(leak)]);
        params.extend([i32(count), i32(size), span_of::<f32>("parts", n)]);
        let (name, grid) = (kernel!(float, "scale_shift_leaky_sums"), rows.chunk_blocks(chunks));
        let op = "scale_shift_leaky";
        // SAFETY: as the forward pass; the kernel writes 2·c parts for each group and chunk.
        let parts = unsafe { Launch::new(gpu, op, name, grid, params)? };
        let mut params =
            vec![span_of::<f32>("parts", n), rows.bounds.clone(), g.c.clone(), i32(count), i32(size)];
        params.extend([span_of::<f32>("dscale", rows.stats()), span_of::<f32>("dshift", rows.stats())]);
        let grid = final_sums(rows.c, rows.groups);
        // SAFETY: the kernel reads the parts that the first wrote and writes groups × c sums; the block is 32 × 32.
        let last = unsafe { Launch::new(gpu, op, "scale_shift_leaky_sums_final", grid, params)? };
        Ok(Self { parts, last, workspace: n * size_of::<f32>() })
    }

    /// Bytes of workspace.
    pub fn workspace(&self) -> usize {
        self.workspace
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
        self.parts.run(gpu, &[x, dy, mean, scale, shift, workspace].map(Some))?;
        self.last.run(gpu, &[workspace, dscale, dshift].map(Some))
    }
}
