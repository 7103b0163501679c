//! Mean and biased variance of each channel over a group's images and pixels, and their gradient.
//!
//! Each chunk forms its own mean and sum of squared deviations in two passes; chunks are merged in order by the
//! formula of Chan, Golub, LeVeque (1979) in float64: Σx² − mean² would cancel.

pub use crate::channels::Grouped;
use crate::channels::{Chunk, of_block, repeat, repeats};
use crate::cpu::{Cpu, Real, Simd, for_parts, simd::multiversion};

multiversion! {
    /// Sums of `x` (`rows × c`), or of squared deviations from `mean`, into the first `c` values of `acc`.
    fn moments<T: Real>(x: &[T], c: usize, mean: Option<&[T]>, acc: &mut [T]) {
        acc.fill(T::ZERO);
        let span = acc.len();
        match mean {
            None => {
                for x in x.chunks(span) {
                    for (a, &x) in acc.iter_mut().zip(x) {
                        *a += x;
                    }
                }
            }
            Some(mean) => {
                for x in x.chunks(span) {
                    for ((a, &x), &m) in acc.iter_mut().zip(x).zip(mean) {
                        *a += (x - m) * (x - m);
                    }
                }
            }
        }
        let (first, rest) = acc.split_at_mut(c);
        for r in rest.chunks_exact(c) {
            for (a, &r) in first.iter_mut().zip(r) {
                *a += r;
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
        self.each * 3 * self.span()
    }

    /// Elements of workspace.
    pub fn workspace(&self) -> usize {
        self.chunks.last().map_or(0, |k| (k.part / self.each + 1) * self.block_part())
    }

    /// `mean[g, c]` and biased `var[g, c]` from x.
    pub fn run<T: Real>(&self, cpu: &Cpu, x: &[T], mean: &mut [T], var: &mut [T], workspace: &mut [T]) {
        let c = self.shape.c;
        for_parts(cpu, workspace, 3 * self.span(), |t, part| {
            let Some(chunk) = self.chunks.get(t) else { return };
            self.chunk(cpu.simd, &x[chunk.start * c..chunk.end * c], part);
        });
        self.merge(workspace, mean, var);
    }

    /// Mean, sum of squared deviations and the mean repeated, from the rows of a chunk.
    fn chunk<T: Real>(&self, simd: Simd, x: &[T], part: &mut [T]) {
        let (c, span) = (self.shape.c, self.span());
        let (m, rest) = part.split_at_mut(span);
        let (m2, means) = rest.split_at_mut(span);
        moments(simd, x, c, None, m);
        let rows = T::of((x.len() / c) as f64);
        m[..c].iter_mut().for_each(|m| *m = *m / rows);
        for r in means.chunks_exact_mut(c) {
            r.copy_from_slice(&m[..c]);
        }
        moments(simd, x, c, Some(means), m2);
    }

    /// What the block `x` that starts at element `first` gives, in its part of the workspace.
    pub fn block<T: Real>(&self, simd: Simd, first: usize, x: &[T], part: &mut [T]) {
        let chunks = of_block(&self.chunks, self.shape.c, first, x.len());
        for ((_, r), part) in chunks.zip(part.chunks_exact_mut(3 * self.span())) {
            self.chunk(simd, &x[r], part);
        }
    }

    /// `mean[g, c]` and biased `var[g, c]` from what the chunks gave.
    pub fn merge<T: Real>(&self, workspace: &[T], mean: &mut [T], var: &mut [T]) {
        let c = self.shape.c;
        for g in 0..self.shape.groups.len() {
            self.merge_group(g, workspace, &mut mean[g * c..][..c], &mut var[g * c..][..c]);
        }
    }

    fn merge_group<T: Real>(&self, group: usize, parts: &[T], mean: &mut [T], var: &mut [T]) {
        let span = self.span();
        let first = self.chunks.partition_point(|c| c.group < group);
        let end = self.chunks.partition_point(|c| c.group <= group);
        for ch in 0..self.shape.c {
            let (mut n, mut m, mut m2) = (0.0f64, 0.0f64, 0.0f64);
            for chunk in &self.chunks[first..end] {
                let (t, rows) = (chunk.part, (chunk.end - chunk.start) as f64);
                let (b, b2) = (parts[t * 3 * span + ch].to_f64(), parts[(t * 3 + 1) * span + ch].to_f64());
                let d = b - m;
                m += d * rows / (n + rows);
                m2 += b2 + d * d * n * rows / (n + rows);
                n += rows;
            }
            mean[ch] = T::of(m);
            var[ch] = T::of(m2 / n);
        }
    }
}

multiversion! {
    fn backward<T: Real>(x: &[T], add: &[T], a: &[T], b: &[T], dx: &mut [T]) {
        for (((dx, x), add), (a, b)) in
            dx.chunks_mut(a.len()).zip(x.chunks(a.len())).zip(add.chunks(a.len())).zip(core::iter::repeat((a, b)))
        {
            for ((((dx, &x), &add), &a), &b) in dx.iter_mut().zip(x).zip(add).zip(a).zip(b) {
                *dx = add + (a + b * x);
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
    let (c, grain, starts) = (shape.c, shape.grain(), shape.starts());
    let coeffs: Vec<_> = (0..shape.groups.len())
        .map(|g| {
            let n = T::of(shape.rows(g) as f64);
            let at = g * c..(g + 1) * c;
            let b: Vec<T> = dvar[at.clone()].iter().map(|&v| T::of(2.0) * v / n).collect();
            let means = dmean[at.clone()].iter().zip(&mean[at]);
            let a: Vec<T> = means.zip(&b).map(|((&d, &m), &b)| d / n - b * m).collect();
            (repeat(&a), repeat(&b))
        })
        .collect();
    let zeros = vec![T::ZERO; if add.is_none() { grain } else { 0 }];
    for_parts(cpu, dx, grain, |t, dx| {
        let at = t * grain;
        shape.pieces(&starts, at, dx.len(), |g, r| {
            let ((a, b), dx) = (&coeffs[g], &mut dx[r.start - at..r.end - at]);
            let add = add.map_or_else(|| &zeros[..dx.len()], |add| &add[r.clone()]);
            backward(cpu.simd, &x[r], add, a, b, dx);
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
