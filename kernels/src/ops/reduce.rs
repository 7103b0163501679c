//! Sums: over all rows of a matrix, over everything, and their transposes.

use crate::cpu::columns::{self, Term};
use crate::cpu::vector::Arithmetic;
use crate::cpu::{Cpu, Real};
use crate::ops::grouped::{Chunks, Grouped};

/// The terms of a plain sum: the elements themselves.
#[derive(Clone, Copy)]
struct Elements<'a, T>(&'a [T]);

// SAFETY: lanes are read at i, as in `one`.
unsafe impl<T: Real> Term<T, 1> for Elements<'_, T> {
    fn len(&self) -> usize {
        self.0.len()
    }
    #[inline(always)]
    fn one(&self, i: usize, _: usize) -> [T; 1] {
        [self.0[i]]
    }
    #[inline(always)]
    fn tensors(&self) -> [Option<*const T>; 2] {
        [Some(self.0.as_ptr()), None]
    }
    #[inline(always)]
    unsafe fn add<V: Arithmetic>(&self, i: usize, _: usize, [sum]: [V; 1]) -> [V; 1] {
        // SAFETY: as the caller guarantees.
        unsafe { [sum.add(V::load(self.0.as_ptr().add(i).cast()))] }
    }
}

/// Prepared sums over the rows of a matrix: `out[c]` = Σ_r `x[r, c]`, chunks of rows added in order, in float64.
#[derive(Debug)]
pub struct SumRows(Chunks);

impl SumRows {
    /// Prepares the sums of a matrix of this many rows and channels.
    pub fn new(rows: usize, c: usize) -> Self {
        Self(Chunks::new(Grouped { groups: vec![rows], pixels: 1, c }, columns::span(c)))
    }

    /// Elements of workspace.
    pub fn workspace(&self) -> usize {
        self.0.parts()
    }

    /// Computes the sums.
    pub fn run<T: Real>(&self, cpu: &Cpu, x: &[T], out: &mut [T], workspace: &mut [T]) {
        let c = out.len();
        self.0.run(cpu, workspace, |_, r, part| {
            columns::sums(cpu.simd, &Elements(&x[r]), c, self.0.prefetch(), part);
        });
        self.0.total(cpu.simd, columns::span(c), workspace, [out]);
    }
}

/// `out[r, c]` = `v[c]`.
pub fn broadcast_rows<T: Real>(v: &[T], out: &mut [T]) {
    out.chunks_exact_mut(v.len().max(1)).for_each(|o| o.copy_from_slice(v));
}

/// factor · Σ x, in float64.
pub fn sum_all<T: Real>(factor: f64, x: &[T]) -> T {
    T::of(factor * x.chunks(1024).map(|c| c.iter().map(|v| v.to_f64()).sum::<f64>()).sum::<f64>())
}

/// `out[r, c]` = `x[r, c]`·`v[r]`.
pub fn mul_rows<T: Real>(x: &[T], v: &[T], out: &mut [T]) {
    let c = x.len() / v.len().max(1);
    for ((o, x), &v) in out.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(v) {
        o.iter_mut().zip(x).for_each(|(o, &x)| *o = x * v);
    }
}

/// `out[r]` = Σ_c `x[r, c]`·`y[r, c]`.
pub fn row_dot<T: Real>(x: &[T], y: &[T], out: &mut [T]) {
    let c = x.len() / out.len().max(1);
    for ((o, x), y) in out.iter_mut().zip(x.chunks_exact(c)).zip(y.chunks_exact(c)) {
        *o = x.iter().zip(y).fold(T::ZERO, |s, (&a, &b)| s + a * b);
    }
}

/// The CUDA kernels: `cuda/reduce.cu`.
pub mod cuda {
    use crate::gpu::driver::Arg;
    use crate::gpu::launch::{Float, Launch, Param, Rows, blocks, final_sums, threads, warps};
    use crate::gpu::launch::{f32, i32, i64, int, kernel, span_of};
    use crate::gpu::{Gpu, GpuError};
    use crate::memory::Span;

    /// Elements of a chunk of a whole sum (`SUM_ALL_CHUNK`).
    const CHUNK: usize = 8192;

    /// A sum: in two launches, with what lies between them, or in one.
    #[derive(Debug)]
    pub struct Sum {
        first: Launch,
        last: Option<Launch>,
        workspace: usize,
    }

    /// The launches that a whole sum of n elements takes.
    pub fn launches(n: usize) -> usize {
        if n <= CHUNK { 1 } else { 2 }
    }

    impl Sum {
        /// `out[c]` = Σ_r `x[r, c]`.
        ///
        /// # Errors
        /// Errors of compiling and loading the kernel.
        pub fn rows(gpu: &Gpu, float: Float, rows: usize, c: usize) -> Result<Self, GpuError> {
            let rows = Rows::new(gpu, float, &[rows], c)?;
            let chunk_rows = 32 * rows.tiling.rows;
            let chunks = rows.chunks(chunk_rows);
            let n = chunks * c;
            let (channels, count) = (i32(int("sum_rows", c)?), i32(int("sum_rows", chunks)?));
            let params = vec![
                float.span_of("x", rows.len()),
                rows.bounds.clone(),
                channels.clone(),
                count.clone(),
                i32(int("sum_rows", chunk_rows)?),
                span_of::<f32>("parts", n),
            ];
            let (name, grid) = (kernel!(float, "sum_rows_parts"), rows.chunk_blocks(chunks));
            // SAFETY: the kernel reads the rows that the bounds name, all of x, and writes c parts for each chunk.
            let parts = unsafe { Launch::new(gpu, "reduce", name, grid, params)? };
            let params = vec![span_of::<f32>("parts", n), channels, count, span_of::<f32>("out", c)];
            // SAFETY: the kernel reads the parts and writes c sums; the block is 32 × 32.
            let last = unsafe { Launch::new(gpu, "reduce", "sum_rows_final", final_sums(c, 1), params)? };
            Ok(Self { first: parts, last: Some(last), workspace: n * size_of::<f32>() })
        }

        /// factor · Σ x of n elements.
        ///
        /// # Errors
        /// Errors of compiling and loading the kernel.
        pub fn all(gpu: &Gpu, float: Float, factor: f64, n: usize) -> Result<Self, GpuError> {
            let scale = Param::Value(Arg::F64(factor));
            if launches(n) == 1 {
                let params = vec![float.span_of("x", n), i64(n), scale, span_of::<f32>("out", 1)];
                // SAFETY: the kernel reads n elements and writes one sum.
                let only = unsafe {
                    Launch::new(gpu, "reduce", kernel!(float, "sum_all"), blocks(1, 1, 256), params)?
                };
                return Ok(Self { first: only, last: None, workspace: 0 });
            }
            let chunks = n.div_ceil(CHUNK);
            let params = vec![float.span_of("x", n), i64(n), span_of::<f64>("parts", chunks)];
            let (name, grid) = (kernel!(float, "sum_all_parts"), blocks(chunks.clamp(1, 1 << 16), 1, 256));
            // SAFETY: the kernel reads n elements and writes a part for each chunk.
            let parts = unsafe { Launch::new(gpu, "reduce", name, grid, params)? };
            let params = vec![span_of::<f64>("parts", chunks), i64(chunks), scale, span_of::<f32>("out", 1)];
            // SAFETY: the kernel reads the parts and writes one sum; the block is 32 × 32.
            let last = unsafe { Launch::new(gpu, "reduce", "sum_all_final", blocks(1, 1, 1024), params)? };
            Ok(Self { first: parts, last: Some(last), workspace: chunks * size_of::<f64>() })
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
            x: Span<'_>,
            out: Span<'_>,
            workspace: Span<'_>,
        ) -> Result<(), GpuError> {
            match &self.last {
                None => self.first.run(gpu, &[Some(x), Some(out)]),
                Some(last) => {
                    self.first.run(gpu, &[Some(x), Some(workspace)])?;
                    last.run(gpu, &[Some(workspace), Some(out)])
                }
            }
        }
    }

    /// `out[r, c]` = `v[c]`, from float32. Spans: v, out.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn broadcast_rows(gpu: &Gpu, float: Float, rows: usize, c: usize) -> Result<Launch, GpuError> {
        let params = vec![span_of::<f32>("v", c), i64(rows), i64(c), float.span_of("out", rows * c)];
        // SAFETY: the kernel reads c values and writes rows × c.
        unsafe { Launch::new(gpu, "reduce", kernel!(float, "broadcast_rows"), threads(rows * c), params) }
    }

    /// The scalar factor · s, a float32, in n elements. Spans: s, out.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn spread(gpu: &Gpu, float: Float, factor: f64, n: usize) -> Result<Launch, GpuError> {
        let params = vec![span_of::<f32>("s", 1), f32(factor), i64(n), float.span_of("out", n)];
        // SAFETY: the kernel reads one value and writes n.
        unsafe { Launch::new(gpu, "reduce", kernel!(float, "spread"), threads(n), params) }
    }

    /// `out[r, c]` = `x[r, c]`·`v[r]`, v in float32. Spans: x, v, out.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn mul_rows(gpu: &Gpu, float: Float, rows: usize, c: usize) -> Result<Launch, GpuError> {
        let n = rows * c;
        let params = vec![
            float.span_of("x", n),
            span_of::<f32>("v", rows),
            i64(rows),
            i64(c),
            float.span_of("out", n),
        ];
        // SAFETY: the kernel reads rows × c values and rows factors and writes rows × c values.
        unsafe { Launch::new(gpu, "reduce", kernel!(float, "mul_rows"), threads(n), params) }
    }

    /// `out[r]` = Σ_c `x[r, c]`·`y[r, c]`, in float32. Spans: x, y, out.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn row_dot(gpu: &Gpu, float: Float, rows: usize, c: usize) -> Result<Launch, GpuError> {
        let n = rows * c;
        let params = vec![
            float.span_of("x", n),
            float.span_of("y", n),
            i64(rows),
            i64(c),
            span_of::<f32>("out", rows),
        ];
        // SAFETY: the kernel reads two matrices of rows × c values and writes rows; the block is whole warps.
        unsafe { Launch::new(gpu, "reduce", kernel!(float, "row_dot"), warps(rows), params) }
    }
}
