//! Mean and biased variance of each channel over a group's images and pixels, and their gradient.
//!
//! Rows are merged into the mean and the sum of squared deviations of a chunk, and chunks in order into those of a group,
//! by the formula of Chan, Golub, LeVeque (1979), chunks in float64: Σx² − mean² would cancel.

pub use crate::channels::Grouped;
use crate::channels::{BLOCK, Chunk, of_block, of_group, on_stack, repeat, repeats, room};
use crate::cpu::simd::{far, fetch_ahead, multiversion};
use crate::cpu::{Cpu, Real, Simd, for_parts};

multiversion! {
    /// Mean and sum of squared deviations of `x` (`rows × c`) into the first `c` values of `mean` and `m2`, both of one
    /// length, a multiple of c. In one pass: four rows of that length at a time are merged into what there is. Means are
    /// kept relative to the first row, so that a mean that is large beside the deviations costs no digits.
    fn moments<T: Real>(x: &[T], c: usize, far: bool, mean: &mut [T], m2: &mut [T]) {
        let n = mean.len();
        let m2 = &mut m2[..n];
        mean.fill(T::ZERO);
        m2.fill(T::ZERO);
        let mut blocks = x.chunks_exact(4 * n);
        let (quarter, mut before) = (T::of(0.25), 0.0);
        for rows in &mut blocks {
            if far {
                fetch_ahead(rows);
            }
            let first = &x[..n];
            let (x, y) = rows.split_at(2 * n);
            let ((x0, x1), (x2, x3)) = (x.split_at(n), y.split_at(n));
            let (x1, x3) = (&x1[..n], &x3[..n]);
            // Four of 4·before + 4 rows.
            let (share, weight) = (T::of(1.0 / (before + 1.0)), T::of(4.0 * before / (before + 1.0)));
            for j in 0..n {
                let b = ((x0[j] + x1[j]) + (x2[j] + x3[j])) * quarter;
                let (d0, d1, d2, d3) = (x0[j] - b, x1[j] - b, x2[j] - b, x3[j] - b);
                let d = (b - first[j]) - mean[j];
                mean[j] += d * share;
                m2[j] += ((d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)) + d * d * weight;
            }
            before += 1.0;
        }
        let mut rows = fold_moments(x, c, 4.0 * before, mean, m2);
        let (mean, m2) = (&mut mean[..c], &mut m2[..c]);
        let first = &x[..c.min(x.len())];
        for x in blocks.remainder().chunks_exact(c) {
            rows += 1.0;
            let share = T::of(1.0 / rows);
            for j in 0..c {
                let d = (x[j] - first[j]) - mean[j];
                mean[j] += d * share;
                m2[j] += d * ((x[j] - first[j]) - mean[j]);
            }
        }
        mean.iter_mut().zip(first).for_each(|(mean, first)| *mean += *first);
    }
}

/// Merges the repetitions of c channels, each of `rows` rows and with a mean relative to its own first row in `x`, into the
/// first: how many rows these then have.
#[inline(always)]
fn fold_moments<T: Real>(x: &[T], c: usize, rows: f64, mean: &mut [T], m2: &mut [T]) -> f64 {
    let ((mean, means), (m2, m2s)) = (mean.split_at_mut(c), m2.split_at_mut(c));
    let mut done = rows;
    for (k, (b, b2)) in means.chunks_exact(c).zip(m2s.chunks_exact(c)).filter(|_| rows > 0.0).enumerate() {
        let (share, weight) = (T::of(rows / (done + rows)), T::of(done * rows / (done + rows)));
        let (first, own) = (&x[..c], &x[(k + 1) * c..][..c]);
        for j in 0..c {
            let d = ((own[j] - first[j]) + b[j]) - mean[j];
            mean[j] += d * share;
            m2[j] += b2[j] + d * d * weight;
        }
        done += rows;
    }
    done
}

multiversion! {
    /// Merges what the chunks of a group found, in order: the parts have mean and squared deviations, `span` values each.
    fn merged<T: Real>(parts: &[T], span: usize, chunks: &[Chunk], mean: &mut [T], var: &mut [T]) {
        for (k, (mean, var)) in mean.chunks_mut(BLOCK).zip(var.chunks_mut(BLOCK)).enumerate() {
            let (mut n, mut m, mut m2) = (0.0f64, [0.0f64; BLOCK], [0.0f64; BLOCK]);
            let count = mean.len();
            for chunk in chunks {
                let (b, b2) = parts[chunk.part * 2 * span..][..2 * span].split_at(span);
                let (b, b2) = (&b[k * BLOCK..][..count], &b2[k * BLOCK..][..count]);
                let rows = (chunk.end - chunk.start) as f64;
                let share = rows / (n + rows);
                for ((m, m2), (b, b2)) in m.iter_mut().zip(&mut m2).zip(b.iter().zip(b2)) {
                    let d = b.to_f64() - *m;
                    *m += d * share;
                    *m2 += b2.to_f64() + d * d * (n * share);
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

/// Prepared: the fixed chunks of the shape.
#[derive(Debug)]
pub struct Stats {
    shape: Grouped,
    chunks: Vec<Chunk>,
    /// Chunks a block has at most.
    each: usize,
}

impl Stats {
    /// For a shape.
    pub fn new(shape: Grouped) -> Self {
        let chunks = shape.chunks();
        Self { shape, chunks, each: 1 }
    }

    /// For a tensor that is seen in blocks of `len` elements, whole rows, by [`Stats::block`].
    pub fn of_blocks(shape: Grouped, len: usize) -> Self {
        let (chunks, each) = shape.chunks_of_blocks(len);
        Self { shape, chunks, each }
    }

    fn span(&self) -> usize {
        self.shape.c * repeats(self.shape.c)
    }

    /// Elements that a block finds.
    pub fn block_part(&self) -> usize {
        self.each * 2 * self.span()
    }

    /// Elements of workspace.
    pub fn workspace(&self) -> usize {
        self.chunks.last().map_or(0, |k| (k.part / self.each + 1) * self.block_part())
    }

    /// `mean[g, c]` and biased `var[g, c]` from x.
    pub fn run<T: Real>(&self, cpu: &Cpu, x: &[T], mean: &mut [T], var: &mut [T], workspace: &mut [T]) {
        let (c, far) = (self.shape.c, far::<T>(x.len()));
        for_parts(cpu, workspace, 2 * self.span(), |t, part| {
            let Some(chunk) = self.chunks.get(t) else { return };
            self.chunk(cpu.simd, &x[chunk.start * c..chunk.end * c], far, part);
        });
        self.merge(cpu.simd, workspace, mean, var);
    }

    /// Mean and sum of squared deviations from the rows of a chunk, fetched ahead if x is far.
    fn chunk<T: Real>(&self, simd: Simd, x: &[T], far: bool, part: &mut [T]) {
        on_stack(part, |mean, m2| moments(simd, x, self.shape.c, far, mean, m2));
    }

    /// What the block `x` that starts at element `first` gives, in its part of the workspace.
    pub fn block<T: Real>(&self, simd: Simd, first: usize, x: &[T], part: &mut [T]) {
        let chunks = of_block(&self.chunks, self.shape.c, first, x.len());
        for ((_, r), part) in chunks.zip(part.chunks_exact_mut(2 * self.span())) {
            self.chunk(simd, &x[r], false, part);
        }
    }

    /// `mean[g, c]` and biased `var[g, c]` from what the chunks gave.
    pub fn merge<T: Real>(&self, simd: Simd, workspace: &[T], mean: &mut [T], var: &mut [T]) {
        let c = self.shape.c;
        for (g, (mean, var)) in mean.chunks_exact_mut(c).zip(var.chunks_exact_mut(c)).enumerate() {
            merged(simd, workspace, self.span(), of_group(&self.chunks, g), mean, var);
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
        let (mut m, mut a, mut b) = (room(), room(), room());
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

/// The CUDA arm: `cuda/bn_stats.cu`.
pub mod cuda {
    use super::Grouped;
    use crate::gpu::launch::{Float, Launch, Rows, finals, i32, int, kernel, of};
    use crate::gpu::{Gpu, GpuError};
    use crate::memory::Span;

    /// Packs a thread of the first kernel holds (`HELD`).
    const HELD: usize = 8;

    /// Mean and biased variance of each group and channel.
    #[derive(Debug)]
    pub struct Stats {
        parts: Launch,
        last: Launch,
        workspace: usize,
    }

    impl Stats {
        /// For a shape.
        ///
        /// # Errors
        /// What compiling and loading give.
        pub fn new(gpu: &Gpu, float: Float, shape: &Grouped) -> Result<Self, GpuError> {
            let rows = Rows::grouped(gpu, float, shape)?;
            let chunk_rows = HELD * rows.tiling.rows;
            let chunks = rows.chunks(chunk_rows);
            let n = rows.groups * chunks * 2 * rows.c;
            let ints = [rows.c, chunks, chunk_rows].map(|n| int("bn_stats", n).map(i32));
            let [c, count, size] = ints;
            let (c, count, size) = (c?, count?, size?);
            let params = vec![
                float.of("x", rows.len()),
                rows.bounds.clone(),
                c.clone(),
                count.clone(),
                size.clone(),
                of::<f32>("parts", n),
            ];
            let (name, grid) = (kernel!(float, "bn_stats_parts"), rows.by_chunk(chunks));
            // SAFETY: the kernel reads the rows that the bounds name, which are all of x, and writes 2·c parts for each
            // group and chunk; a chunk has no more rows than the threads of a block hold.
            let parts = unsafe { Launch::new(gpu, "bn_stats", name, grid, params)? };
            let stats = rows.stats();
            let params = vec![
                of::<f32>("parts", n),
                rows.bounds.clone(),
                c,
                count,
                size,
                of::<f32>("mean", stats),
                of::<f32>("var", stats),
            ];
            // SAFETY: the kernel reads the parts that the first wrote and writes groups × c means and variances; the
            // block is 32 × 32.
            let last = unsafe {
                Launch::new(gpu, "bn_stats", "bn_stats_final", finals(rows.c, rows.groups), params)?
            };
            Ok(Self { parts, last, workspace: n * size_of::<f32>() })
        }

        /// Bytes of workspace.
        pub fn workspace(&self) -> usize {
            self.workspace
        }

        /// Asks for one run.
        ///
        /// # Errors
        /// If lengths do not fit; what the driver answers.
        pub fn run(
            &self,
            gpu: &Gpu,
            x: Span<'_>,
            mean: Span<'_>,
            var: Span<'_>,
            workspace: Span<'_>,
        ) -> Result<(), GpuError> {
            self.parts.run(gpu, &[Some(x), Some(workspace)])?;
            self.last.run(gpu, &[Some(workspace), Some(mean), Some(var)])
        }
    }

    /// dx = add + dmean/n + 2·dvar·(x − mean)/n. Spans: x, mean, dmean, dvar, what to add or none, dx.
    ///
    /// # Errors
    /// What compiling and loading give.
    pub fn grad(gpu: &Gpu, float: Float, shape: &Grouped) -> Result<Launch, GpuError> {
        let rows = Rows::grouped(gpu, float, shape)?;
        let (n, stats) = (rows.len(), rows.stats());
        let params = vec![
            float.of("x", n),
            of::<f32>("mean", stats),
            of::<f32>("dmean", stats),
            of::<f32>("dvar", stats),
            float.maybe("add", n),
            rows.bounds.clone(),
            i32(int("bn_stats", rows.c)?),
            float.of("dx", n),
        ];
        let (name, size) = (kernel!(float, "bn_stats_grad"), rows.shared_out(gpu));
        // SAFETY: the kernel reads the rows that the bounds name, which are all of x and add, and groups × c statistics;
        // it writes as many rows.
        unsafe { Launch::new(gpu, "bn_stats", name, size, params) }
    }
}
