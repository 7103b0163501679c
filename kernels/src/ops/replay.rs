//! The replay buffer: rows gathered by index, rows written back, and fresh chains.
//!
//! Duplicate indices: the highest position in the batch wins, on every device.

use crate::cpu::{Cpu, Real, for_parts, simd::multiversion};
use crate::ops::noise::{BLOCK, Distribution, RandomSequence, block, draw};

/// `out[i, ·]` = buffer[`index[i]`, ·]; a row of NaN where the index is out of range.
pub fn gather<T: Real>(cpu: &Cpu, row: usize, buffer: &[T], index: &[i32], out: &mut [T]) {
    for_parts(cpu, out, row, |i, out| {
        let at = usize::try_from(index[i]).ok().and_then(|at| buffer.get(at * row..(at + 1) * row));
        match at {
            Some(b) => out.copy_from_slice(b),
            None => out.fill(T::of(f64::NAN)),
        }
    });
}

/// buffer[`index[i]`, ·] = `x[i, ·]` for i in order; an index out of range writes nothing. `buffer` = `None`: `out`
/// holds it.
pub fn scatter<T: Real>(row: usize, buffer: Option<&[T]>, index: &[i32], x: &[T], out: &mut [T]) {
    if let Some(b) = buffer {
        out.copy_from_slice(b);
    }
    for (x, &i) in x.chunks_exact(row).zip(index) {
        if let Some(o) = usize::try_from(i).ok().and_then(|i| out.get_mut(i * row..(i + 1) * row)) {
            o.copy_from_slice(x);
        }
    }
}

/// What happens to a chain before sampling; the numbers are what the `kind` tensor of [`restart`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Kind {
    /// The chain goes on.
    Keep = 0,
    /// It restarts from the informative distribution of its class.
    Informative = 1,
    /// It restarts from uniform noise in [−1, 1].
    Uniform = 2,
}

/// The training images behind the informative distribution, sorted by class.
#[derive(Clone, Copy, Debug)]
pub struct ByClass<'a> {
    /// N × row bytes; a byte u is the value (u/255 − 0.5)/0.5.
    pub images: &'a [u8],
    /// First image of each class, and N at the end.
    pub offsets: &'a [i32],
    /// classes × row means of the values.
    pub means: &'a [f32],
}

/// `out[i, ·]` = `x[i, ·]`, or a fresh start by `kind[i]` and `class[i]`.
///
/// The informative start is μ + n^-½ Σ_j z_j (x_j − μ) + 10⁻²ξ, z and ξ standard normal, over the n images of the
/// class, clipped to ±1: given the data its distribution is N(μ, Σ + 10⁻⁴I) with Σ the class covariance (÷ n), without
/// ever forming Σ. Chain i draws elements `i·2³²…` of the sequence. A class without images starts from its mean alone;
/// where there is no such class, or its offsets do not lie in order among the images, the row is NaN.
pub fn restart<T: Real>(
    cpu: &Cpu,
    row: usize,
    data: ByClass<'_>,
    x: Option<&[T]>,
    kind: &[i32],
    class: &[i32],
    sequence: RandomSequence,
    out: &mut [T],
) {
    for_parts(cpu, out, row, |i, out| {
        let base = (i as u64) << 32;
        if kind[i] == Kind::Informative as i32 {
            informative(cpu.simd, row, data, class[i], sequence, base, out);
        } else if kind[i] == Kind::Uniform as i32 {
            uniform(cpu.simd, sequence, base, out);
        } else if let Some(x) = x {
            out.copy_from_slice(&x[i * row..(i + 1) * row]);
        }
    });
}

multiversion! {
    /// Uniform on [−1, 1].
    fn uniform<T: Real>(sequence: RandomSequence, base: u64, out: &mut [T]) {
        draw(sequence, Distribution::Uniform, base, out, |o, u| *o = T::of(f64::from(2.0 * u - 1.0)));
    }
}

/// Pixels of a chain worked on at a time: their sums stay in the nearest cache, and the images' weights are drawn
/// once for images of up to that many values.
const PIXELS: usize = 4096;

multiversion! {
    fn informative<T: Real>(
        row: usize, data: ByClass<'_>, class: i32, sequence: RandomSequence, base: u64, out: &mut [T],
    ) {
        let bounds = usize::try_from(class).ok().and_then(|c| Some((c, data.offsets.get(c..c + 2)?)));
        let Some((c, &[first, end])) = bounds.and_then(|(c, b)| Some((c, <&[i32; 2]>::try_from(b).ok()?))) else {
            out.fill(T::of(f64::NAN));
            return;
        };
        if first < 0 || end < first || end as usize * row > data.images.len() {
            out.fill(T::of(f64::NAN));
            return;
        }
        let images = &data.images[first as usize * row..end as usize * row];
        let n = end - first;
        let factor = if n > 0 { 1.0 / (n as f32).sqrt() } else { 0.0 };
        let mean = &data.means[c * row..(c + 1) * row];
        for (part, out) in out.chunks_mut(PIXELS).enumerate() {
            let (at, len) = (part * PIXELS, out.len());
            // Σ_j z_j x_j − (Σ_j z_j) μ.
            let (mut sum, mut total) = ([0.0f32; PIXELS], 0.0f32);
            for (k, images) in images.chunks(BLOCK * row.max(1)).enumerate() {
                let z = block(sequence, Distribution::Normal, base + (k * BLOCK / 4) as u64);
                for (x, z) in images.chunks_exact(row.max(1)).zip(z) {
                    total += z;
                    for (s, &u) in sum[..len].iter_mut().zip(&x[at..]) {
                        *s += z * (f32::from(u) * (2.0 / 255.0) - 1.0);
                    }
                }
            }
            let values = out.chunks_mut(BLOCK).zip(sum.chunks(BLOCK).zip(mean[at..].chunks(BLOCK)));
            for (k, (out, (sum, mean))) in values.enumerate() {
                // The pixel noise follows the image weights, in the upper half of the chain's elements.
                let group = (at + k * BLOCK) / 4;
                let xi = block(sequence, Distribution::Normal, base + (1 << 31) + group as u64);
                for (((o, s), m), xi) in out.iter_mut().zip(sum).zip(mean).zip(xi) {
                    let v = m + factor * (s - total * m) + 1e-2 * xi;
                    *o = T::of(f64::from(v.clip(-1.0, 1.0)));
                }
            }
        }
    }
}

/// The CUDA kernels: `cuda/replay.cu`.
pub mod cuda {
    use crate::gpu::launch::{Launch, blocks, i32, i64, int, span_of, threads, threads_per_row, u32};
    use crate::gpu::{Gpu, GpuError};
    use crate::memory::Span;

    /// Rows of a buffer of `rows` × `row` elements by n indices. Spans: buffer, index, out.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn gather(gpu: &Gpu, rows: usize, row: usize, n: usize) -> Result<Launch, GpuError> {
        let params = vec![
            span_of::<f32>("buffer", rows * row),
            i32(int("gather", rows)?),
            i64(row),
            span_of::<i32>("index", n),
            i32(int("gather", n)?),
            span_of::<f32>("out", n * row),
        ];
        // SAFETY: the kernel reads n indices, and rows of the buffer only where the index lies inside; it writes n
        // rows.
        unsafe {
            Launch::new(gpu, "replay", "replay_gather_f32", threads_per_row(row.div_ceil(4), n), params)
        }
    }

    /// Rows written back into a buffer of `rows` × `row` elements by n indices.
    #[derive(Debug)]
    pub struct Scatter {
        slots: Launch,
        write: Launch,
        workspace: usize,
    }

    impl Scatter {
        /// Prepares it for a shape.
        ///
        /// # Errors
        /// Errors of compiling and loading the kernel.
        pub fn new(gpu: &Gpu, rows: usize, row: usize, n: usize) -> Result<Self, GpuError> {
            let count = i32(int("scatter", n)?);
            let (index, slots) = (span_of::<i32>("index", n), span_of::<i32>("slots", n));
            let params = vec![index, count.clone(), i32(int("scatter", rows)?), slots.clone()];
            // SAFETY: the kernel reads n indices and writes n slots, each below `rows` or −1.
            let find = unsafe { Launch::new(gpu, "replay", "replay_slots", threads(n), params)? };
            let params = vec![
                span_of::<f32>("x", n * row),
                i64(row),
                slots,
                count,
                span_of::<f32>("buffer", rows * row),
            ];
            let size = threads_per_row(row.div_ceil(4), n);
            // SAFETY: the kernel reads n slots and rows and writes rows of the buffer that the slots name.
            let write = unsafe { Launch::new(gpu, "replay", "replay_scatter_f32", size, params)? };
            Ok(Self { slots: find, write, workspace: n * size_of::<i32>() })
        }

        /// Bytes of workspace.
        pub fn workspace(&self) -> usize {
            self.workspace
        }

        /// Submits one run; `buffer` holds the old rows.
        ///
        /// # Errors
        /// If lengths do not fit; a driver error.
        pub fn run(
            &self,
            gpu: &Gpu,
            index: Span<'_>,
            x: Span<'_>,
            buffer: Span<'_>,
            workspace: Span<'_>,
        ) -> Result<(), GpuError> {
            self.slots.run(gpu, &[Some(index), Some(workspace)])?;
            self.write.run(gpu, &[Some(x), Some(workspace), Some(buffer)])
        }
    }

    /// Blocks among which the images of a chain are divided (`PARTS`).
    const PARTS: usize = 8;

    /// Chains that restart: see [`super::restart`].
    #[derive(Debug)]
    pub struct Restart {
        parts: Launch,
        last: Launch,
        workspace: usize,
    }

    /// What [`Restart::run`] reads.
    #[derive(Clone, Copy, Debug)]
    #[allow(missing_docs)]
    pub struct From<'a> {
        pub x: Span<'a>,
        pub kind: Span<'a>,
        pub class: Span<'a>,
        pub images: Span<'a>,
        pub offsets: Span<'a>,
        pub means: Span<'a>,
        pub seed: Span<'a>,
        pub step: Span<'a>,
    }

    impl Restart {
        /// Prepares it for n chains of `row` values, and `images` training images in `classes` classes.
        ///
        /// # Errors
        /// If there are too many chains; errors of compiling and loading the kernels.
        pub fn new(
            gpu: &Gpu,
            (n, row): (usize, usize),
            (images, classes): (usize, usize),
            stream: u32,
        ) -> Result<Self, GpuError> {
            if n == 0 || n > 65_535 {
                return Err(GpuError::shape("restart", format!("{n} chains")));
            }
            let (kind, class) = (span_of::<i32>("kind", n), span_of::<i32>("class", n));
            let (offsets, means) =
                (span_of::<i32>("offsets", classes + 1), span_of::<f32>("means", classes * row));
            let counts = [i32(int("restart", images)?), i32(int("restart", classes)?)];
            let random = [span_of::<i32>("seed", 2), span_of::<i32>("step", 1), u32(0), u32(stream)];
            let parts = span_of::<f32>("parts", PARTS * n * row);
            let length = i32(int("restart", row)?);
            let mut params = vec![kind.clone(), class.clone(), span_of::<u8>("images", images * row)];
            params.extend([offsets.clone(), means.clone()]);
            params.extend(counts.iter().chain(&random).cloned());
            params.extend([length.clone(), parts.clone()]);
            let mut size = blocks(row.div_ceil(128), n, 256);
            size.grid_dim.2 = PARTS as u32;
            // SAFETY: a block works on 128 elements of a chain and stays inside the row. It reads images from offset to
            // offset of a class, where these lie in order in 0..=images; everything else is of the lengths given.
            let first = unsafe { Launch::new(gpu, "replay", "replay_restart_parts", size, params)? };
            let mut params = vec![span_of::<f32>("x", n * row), kind, class, offsets, means];
            params.extend(counts.into_iter().chain(random));
            params.extend([length, parts, span_of::<f32>("out", n * row)]);
            let size = blocks(row.div_ceil(1024), n, 256);
            // SAFETY: a thread works on four elements of a chain and stays inside the row; it reads the parts that the first
            // kernel wrote for the same chains.
            let last = unsafe { Launch::new(gpu, "replay", "replay_restart", size, params)? };
            Ok(Self { parts: first, last, workspace: PARTS * n * row * size_of::<f32>() })
        }

        /// Bytes of workspace.
        pub fn workspace(&self) -> usize {
            self.workspace
        }

        /// Submits one run; `out` may be x.
        ///
        /// # Errors
        /// If lengths do not fit; a driver error.
        pub fn run(
            &self,
            gpu: &Gpu,
            from: From<'_>,
            out: Span<'_>,
            workspace: Span<'_>,
        ) -> Result<(), GpuError> {
            let From { x, kind, class, images, offsets, means, seed, step } = from;
            self.parts.run(gpu, &[kind, class, images, offsets, means, seed, step, workspace].map(Some))?;
            let spans = [x, kind, class, offsets, means, seed, step, workspace, out];
            self.last.run(gpu, &spans.map(Some))
        }
    }
}
