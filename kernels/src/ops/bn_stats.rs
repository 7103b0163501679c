//! Mean and biased variance of each channel over a group's images and pixels, and their gradient.
//!
//! What must hold: no digits are lost to a mean that is large beside the deviations, as Σx² − mean² would. Within a
//! chunk deviations are taken from a value close to the mean; chunks are merged in order, in float64, by the formula of
//! Chan, Golub, LeVeque (1979).

use crate::cpu::columns::{self, Term};
use crate::cpu::simd::multiversion;
use crate::cpu::vector::Arithmetic;
use crate::cpu::{Cpu, Real, Simd, for_parts};
pub use crate::ops::grouped::Grouped;
use crate::ops::grouped::{BLOCK, Chunks, repeat, repeat_buffer};

/// x − shift and its square.
#[derive(Clone, Copy)]
struct Deviations<'a, T> {
    x: &'a [T],
    shift: &'a [T],
}

// SAFETY: lanes are read from x and shift at i and j, as in `one`.
unsafe impl<T: Real> Term<T, 2> for Deviations<'_, T> {
    fn len(&self) -> usize {
        self.x.len()
    }
    #[inline(always)]
    fn one(&self, i: usize, j: usize) -> [T; 2] {
        let d = self.x[i] - self.shift[j];
        [d, d * d]
    }
    #[inline(always)]
    fn tensors(&self) -> [Option<*const T>; 2] {
        [Some(self.x.as_ptr()), None]
    }
    #[inline(always)]
    unsafe fn add<V: Arithmetic>(&self, i: usize, j: usize, [sum, squares]: [V; 2]) -> [V; 2] {
        // SAFETY: as the caller guarantees.
        unsafe {
            let (x, shift) = (self.x.as_ptr().add(i).cast(), self.shift.as_ptr().add(j).cast());
            let d = V::load(x).sub(V::load(shift));
            [sum.add(d), squares.fma(d, d)]
        }
    }
}

/// Rows whose mean the deviations of a chunk are first taken from.
const FIRST: usize = 4;
/// How much larger than the squared deviations from the mean those from the first rows' mean may be: four of 24 bits
/// are lost. Where they are larger still, deviations are taken anew.
const LOST: f64 = 16.0;

multiversion! {
    /// The mean of the first rows of c channels, exact where they are all the same, over and over in `shift`.
    fn first_mean<T: Real>(x: &[T], c: usize, shift: &mut [T]) {
        let rows = FIRST.min(x.len() / c);
        let (first, more) = x[..rows * c].split_at(c);
        let (mean, rest) = shift.split_at_mut(c);
        mean.fill(T::ZERO);
        for x in more.chunks_exact(c) {
            for j in 0..c {
                mean[j] += x[j] - first[j];
            }
        }
        let inverse = T::of(1.0 / rows as f64);
        for j in 0..c {
            mean[j] = mean[j] * inverse + first[j];
        }
        rest.chunks_exact_mut(c).for_each(|to| to.copy_from_slice(mean));
    }
}

multiversion! {
    /// Turns sums and sums of squares of deviations of `rows` rows from `shift` into means and squared deviations from
    /// these. Whether the latter lost no more than [`LOST`].
    fn centred<T: Real>(rows: f64, shift: &[T], sum: &mut [T], squares: &mut [T]) -> bool {
        let (inverse, lost, n) = (T::of(1.0 / rows), T::of(LOST), sum.len());
        let (shift, squares) = (&shift[..n], &mut squares[..n]);
        let mut worst = T::ZERO;
        for j in 0..n {
            let d = sum[j] * inverse;
            let m2 = squares[j] - sum[j] * d;
            let left = squares[j] - m2 * lost;
            worst = if left > worst { left } else { worst };
            sum[j] = shift[j] + d;
            squares[j] = if m2 < T::ZERO { T::ZERO } else { m2 };
        }
        worst > T::ZERO
    }
}

multiversion! {
    /// Merges the parts of a group's chunks, in order: each part has means and squared deviations, `span` values each.
    fn merged<T: Real>(chunks: &Chunks, span: usize, group: usize, parts: &[T], mean: &mut [T], var: &mut [T]) {
        for (k, (mean, var)) in mean.chunks_mut(BLOCK).zip(var.chunks_mut(BLOCK)).enumerate() {
            let (mut n, mut m, mut m2) = (0.0f64, [0.0f64; BLOCK], [0.0f64; BLOCK]);
            let count = mean.len();
            for (chunk, part) in chunks.parts_of_group(group, parts) {
                let (b, b2) = (&part[k * BLOCK..][..count], &part[span + k * BLOCK..][..count]);
                let rows = (chunk.end - chunk.start) as f64;
                let fraction = rows / (n + rows);
                for ((m, m2), (b, b2)) in m.iter_mut().zip(&mut m2).zip(b.iter().zip(b2)) {
                    let d = b.to_f64() - *m;
                    *m += d * fraction;
                    *m2 += b2.to_f64() + d * d * (n * fraction);
                }
                n += rows;
            }
            for ((mean, var), (m, m2)) in mean.iter_mut().zip(var).zip(m.iter().zip(&m2)) {
                *mean = T::of(*m);
                *var = T::of(*m2 / n);
            }
        }
    }
}

/// Prepared statistics: the fixed chunks of the shape.
#[derive(Debug)]
pub struct Stats {
    chunks: Chunks,
    span: usize,
}

impl Stats {
    /// Prepares it for a shape.
    pub fn new(shape: Grouped) -> Self {
        let span = columns::span(shape.c);
        Self { chunks: Chunks::new(shape, 3 * span), span }
    }

    /// Prepares the statistics of a tensor that [`Stats::block`] is given in blocks of `len` elements, whole rows.
    pub(crate) fn of_blocks(shape: Grouped, len: usize) -> Self {
        let span = columns::span(shape.c);
        Self { chunks: Chunks::of_blocks(shape, len, 3 * span), span }
    }

    /// Elements of the parts of a block.
    pub(crate) fn block_part(&self) -> usize {
        self.chunks.block_part()
    }

    /// Elements of workspace.
    pub fn workspace(&self) -> usize {
        self.chunks.parts()
    }

    /// `mean[g, c]` and biased `var[g, c]` from x.
    pub fn run<T: Real>(&self, cpu: &Cpu, x: &[T], mean: &mut [T], var: &mut [T], workspace: &mut [T]) {
        self.chunks.run(cpu, workspace, |_, r, part| self.moments(cpu.simd, &x[r], part));
        self.merge(cpu.simd, workspace, mean, var);
    }

    /// Mean and sum of squared deviations of the rows of a chunk: the first c values of `part` and those after `span`.
    /// Deviations are taken from a guess, so that rows are read once and a mean that is large beside them costs no
    /// digits; from the mean itself where the guess turns out to be bad.
    fn moments<T: Real>(&self, simd: Simd, x: &[T], part: &mut [T]) {
        let c = self.chunks.shape().c;
        let (sums, shift) = part.split_at_mut(2 * self.span);
        first_mean(simd, x, c, shift);
        for again in [false, true] {
            columns::sums(simd, &Deviations { x, shift: &*shift }, c, self.chunks.prefetch() && !again, sums);
            let (sum, squares) = sums.split_at_mut(self.span);
            let (sum, rows) = (&mut sum[..c], (x.len() / c) as f64);
            if !centred(simd, rows, shift, sum, squares) {
                return;
            }
            shift.chunks_exact_mut(c).for_each(|shift| shift.copy_from_slice(sum));
        }
    }

    /// Computes the part of the block `x`, which starts at element `first` of the tensor.
    pub fn block<T: Real>(&self, simd: Simd, first: usize, x: &[T], part: &mut [T]) {
        self.chunks.block(first, x.len(), part, |_, r, part| self.moments(simd, &x[r], part));
    }

    /// `mean[g, c]` and biased `var[g, c]` from the parts of all chunks.
    pub fn merge<T: Real>(&self, simd: Simd, workspace: &[T], mean: &mut [T], var: &mut [T]) {
        let c = self.chunks.shape().c;
        for (g, (mean, var)) in mean.chunks_exact_mut(c).zip(var.chunks_exact_mut(c)).enumerate() {
            merged(simd, &self.chunks, self.span, g, workspace, mean, var);
        }
    }
}

multiversion! {
    /// dx = add + (a/n + b·(x − mean)·2/n), coefficients repeated to one length.
    fn backward<T: Real>(x: &[T], add: Option<&[T]>, mean: &[T], a: &[T], b: &[T], n: T, dx: &mut [T]) {
        let (span, one, two) = (mean.len(), T::ONE / n, T::of(2.0) / n);
        let (a, b) = (&a[..span], &b[..span]);
        for (i, dx) in dx.chunks_mut(span).enumerate() {
            let (at, len) = (i * span, dx.len());
            let (x, mean, a, b) = (&x[at..][..len], &mean[..len], &a[..len], &b[..len]);
            match add {
                Some(add) => {
                    let add = &add[at..][..len];
                    for j in 0..len {
                        dx[j] = add[j] + (a[j] * one + (b[j] * two) * (x[j] - mean[j]));
                    }
                }
                None => {
                    for j in 0..len {
                        dx[j] = a[j] * one + (b[j] * two) * (x[j] - mean[j]);
                    }
                }
            }
        }
    }
}

/// dx = add + dmean/n + 2·dvar·(x − mean)/n. `add` = `None` stands for zeros.
pub fn grad_cpu<T: Real>(
    cpu: &Cpu,
    shape: &Grouped,
    x: &[T],
    mean: &[T],
    dmean: &[T],
    dvar: &[T],
    add: Option<&[T]>,
    dx: &mut [T],
) {
    let (c, grain) = (shape.c, shape.grain());
    for_parts(cpu, dx, grain, |t, dx| {
        let at = t * grain;
        let (mut m, mut a, mut b) = (repeat_buffer(), repeat_buffer(), repeat_buffer());
        shape.pieces(at, dx.len(), |g, r| {
            let dx = &mut dx[r.start - at..r.end - at];
            let of = g * c..(g + 1) * c;
            let mean = repeat(&mean[of.clone()], &mut m);
            let (a, b) = (repeat(&dmean[of.clone()], &mut a), repeat(&dvar[of], &mut b));
            let n = T::of(shape.rows(g) as f64);
            backward(cpu.simd, &x[r.clone()], add.map(|add| &add[r]), mean, a, b, n, dx);
        });
    });
}

/// The CUDA kernels: `cuda/bn_stats.cu`.
pub mod cuda {
    use super::Grouped;
    use crate::gpu::launch::{Float, Launch, Param, Rows, final_sums, i32, int, kernel, span_of};
    use crate::gpu::{Gpu, GpuError};
    use crate::memory::Span;

    /// Vectors that a thread of the first kernel holds (`HELD`).
    const HELD: usize = 8;

    /// The moments of chunks of rows, which another kernel merges.
    #[derive(Debug)]
    pub(crate) struct Parts {
        /// Spans: x, the parts.
        pub(crate) launch: Launch,
        pub(crate) rows: Rows,
        pub(crate) chunks: i32,
        pub(crate) chunk_rows: i32,
        /// Number of parts.
        pub(crate) len: usize,
    }

    impl Parts {
        pub(crate) fn new(gpu: &Gpu, float: Float, shape: &Grouped) -> Result<Self, GpuError> {
            Self::with(gpu, float, shape, HELD, |rows, [c, chunks, chunk_rows], parts| {
                let params =
                    vec![float.span_of("x", rows.len()), rows.bounds.clone(), c, chunks, chunk_rows, parts];
                ("bn_stats", kernel!(float, "bn_stats_parts"), params)
            })
        }

        /// With the kernel whose file, name and parameters `kernel` gives, and whose threads hold `held` vectors.
        pub(crate) fn with(
            gpu: &Gpu,
            float: Float,
            shape: &Grouped,
            held: usize,
            kernel: impl Fn(&Rows, [Param; 3], Param) -> (&'static str, &'static str, Vec<Param>),
        ) -> Result<Self, GpuError> {
            let rows = Rows::new(gpu, float, &shape.rows_per_group(), shape.c)?;
            let chunk_rows = held * rows.tiling.rows;
            let chunks = rows.chunks(chunk_rows);
            let len = rows.groups * chunks * 2 * rows.c;
            let [c, count, size] = [rows.c, chunks, chunk_rows].map(|n| int("bn_stats", n));
            let (c, count, size) = (c?, count?, size?);
            let (op, name, params) = kernel(&rows, [c, count, size].map(i32), span_of::<f32>("parts", len));
            // SAFETY: the kernel reads the rows that the bounds name, which are all of its tensors, and writes 2·c parts
            // for each group and chunk; a chunk has no more rows than the threads of a block hold.
            let launch = unsafe { Launch::new(gpu, op, name, rows.chunk_blocks(chunks), params)? };
            Ok(Self { launch, rows, chunks: count, chunk_rows: size, len })
        }
    }

    /// Mean and biased variance of each group and channel.
    #[derive(Debug)]
    pub struct Stats {
        parts: Parts,
        last: Launch,
    }

    impl Stats {
        /// Prepares it for a shape.
        ///
        /// # Errors
        /// Errors of compiling and loading the kernel.
        pub fn new(gpu: &Gpu, float: Float, shape: &Grouped) -> Result<Self, GpuError> {
            let parts = Parts::new(gpu, float, shape)?;
            let (rows, stats) = (&parts.rows, parts.rows.stats());
            let params = vec![
                span_of::<f32>("parts", parts.len),
                rows.bounds.clone(),
                i32(int("bn_stats", rows.c)?),
                i32(parts.chunks),
                i32(parts.chunk_rows),
                span_of::<f32>("mean", stats),
                span_of::<f32>("var", stats),
            ];
            // SAFETY: the kernel reads the parts that the first wrote and writes groups × c means and variances; the
            // block is 32 × 32.
            let last = unsafe {
                Launch::new(gpu, "bn_stats", "bn_stats_final", final_sums(rows.c, rows.groups), params)?
            };
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
            x: Span<'_>,
            mean: Span<'_>,
            var: Span<'_>,
            workspace: Span<'_>,
        ) -> Result<(), GpuError> {
            self.parts.launch.run(gpu, &[Some(x), Some(workspace)])?;
            self.last.run(gpu, &[Some(workspace), Some(mean), Some(var)])
        }
    }

    /// dx = add + dmean/n + 2·dvar·(x − mean)/n. Spans: x, mean, dmean, dvar, what to add (optional), dx.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn grad(gpu: &Gpu, float: Float, shape: &Grouped) -> Result<Launch, GpuError> {
        let rows = Rows::new(gpu, float, &shape.rows_per_group(), shape.c)?;
        let (n, stats) = (rows.len(), rows.stats());
        let params = vec![
            float.span_of("x", n),
            span_of::<f32>("mean", stats),
            span_of::<f32>("dmean", stats),
            span_of::<f32>("dvar", stats),
            float.optional("add", n),
            rows.bounds.clone(),
            i32(int("bn_stats", rows.c)?),
            float.span_of("dx", n),
        ];
        let (name, size) = (kernel!(float, "bn_stats_grad"), rows.fill_device(gpu));
        // SAFETY: the kernel reads the rows that the bounds name, which are all of x and add, and groups × c
        // statistics; it writes as many rows.
        unsafe { Launch::new(gpu, "bn_stats", name, size, params) }
    }
}

#[cfg(test)]
mod tests;
