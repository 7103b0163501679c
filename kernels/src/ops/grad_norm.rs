//! The joint norm of all gradients, and what depends on it: clipping (Pascanu et al., 2013) and the perturbation of
//! adaptive sharpness-aware minimisation (ASAM; Kwon et al., 2021).

use crate::cpu::{Cpu, GRAIN, Real, copy_unless_in_place, for_parts, simd::multiversion};

/// What PyTorch's `clip_grad_norm_` adds to the norm.
const CLIP_EPS: f64 = 1e-6;
/// What the published code of SAM adds to the norm.
const SAM_EPS: f64 = 1e-12;

/// Elements of workspace, in float64, of a sum over `n` elements.
pub const fn parts(n: usize) -> usize {
    n.div_ceil(GRAIN)
}

/// Σ g², or with weights Σ (w·g)², in float64; chunks are added in order. `parts` holds [`parts`]`(g.len())` values.
pub fn sum_squares<T: Real>(cpu: &Cpu, g: &[T], w: Option<&[T]>, parts: &mut [f64]) -> T {
    for_parts(cpu, parts, 1, |t, part| {
        let range = t * GRAIN..g.len().min((t + 1) * GRAIN);
        let g = g[range.clone()].iter().map(|v| v.to_f64());
        part[0] = match w {
            None => g.map(|g| g * g).sum(),
            Some(w) => g.zip(&w[range]).map(|(g, w)| (w.to_f64() * g).powi(2)).sum(),
        };
    });
    T::of(parts.iter().sum())
}

multiversion! {
    fn scale<T: Real>(factor: T, g: &mut [T]) {
        for g in g {
            *g = *g * factor;
        }
    }
}

/// g·min(1, max/(√s + 1e-6)), where s is the sum of squares of all gradients; `g` = `None` means that `out` holds g.
pub fn clip<T: Real>(cpu: &Cpu, max: f64, g: Option<&[T]>, s: T, out: &mut [T]) {
    // Not `min`, which would turn NaN into 1 and hide a gradient that has diverged.
    let factor = max / (s.to_f64().sqrt() + CLIP_EPS);
    let factor = T::of(if factor > 1.0 { 1.0 } else { factor });
    for_parts(cpu, out, GRAIN, |t, out| {
        copy_unless_in_place(g, t * GRAIN, out);
        scale(cpu.simd, factor, out);
    });
}

multiversion! {
    fn perturb_body<T: Real>(factor: T, w: &[T], g: &[T], out: &mut [T]) {
        for ((o, &w), &g) in out.iter_mut().zip(w).zip(g) {
            *o = w + w * w * g * factor;
        }
    }
}

/// w + ρ·w²·g/(√s + 1e-12), where s is the sum of (w·g)² over all parameters.
pub fn perturb<T: Real>(cpu: &Cpu, rho: f64, w: &[T], g: &[T], s: T, out: &mut [T]) {
    let factor = T::of(rho / (s.to_f64().sqrt() + SAM_EPS));
    for_parts(cpu, out, GRAIN, |t, out| {
        let at = t * GRAIN;
        perturb_body(cpu.simd, factor, &w[at..], &g[at..], out);
    });
}

/// The CUDA kernels: `cuda/grad_norm.cu`.
pub mod cuda {
    use super::{CLIP_EPS, SAM_EPS};
    use crate::gpu::driver::Arg;
    use crate::gpu::launch::{Float, Launch, NULL, PACK, Param, blocks, f64, i64, span_of, threads};
    use crate::gpu::{Gpu, GpuError};
    use crate::memory::Span;

    /// Elements of a chunk of the sum (`SUM_SQUARES_CHUNK`).
    const CHUNK: usize = 8192;

    /// Σ g² or Σ (w·g)² of n elements, in two launches.
    #[derive(Debug)]
    pub struct SumSquares {
        parts: Launch,
        last: Launch,
        workspace: usize,
    }

    impl SumSquares {
        /// Prepares the sum, with weights or without.
        ///
        /// # Errors
        /// Errors of compiling and loading the kernels.
        pub fn new(gpu: &Gpu, weighted: bool, n: usize) -> Result<Self, GpuError> {
            let chunks = n.div_ceil(CHUNK);
            let params = vec![
                span_of::<f32>("g", n),
                if weighted { span_of::<f32>("w", n) } else { NULL },
                i64(n),
                span_of::<f64>("parts", chunks),
            ];
            let grid = blocks(chunks.clamp(1, 1 << 16), 1, 256);
            // SAFETY: the kernel reads n gradients, and n weights unless that is null, and writes a part for each chunk.
            let parts = unsafe { Launch::new(gpu, "grad_norm", "sum_squares_parts", grid, params)? };
            let one = Param::Value(Arg::F64(1.0));
            let params = vec![span_of::<f64>("parts", chunks), i64(chunks), one, span_of::<f32>("out", 1)];
            // SAFETY: the kernel reads the parts and writes one sum; the block is 32 × 32.
            let last = unsafe { Launch::new(gpu, "reduce", "sum_all_final", blocks(1, 1, 1024), params)? };
            Ok(Self { parts, last, workspace: chunks * size_of::<f64>() })
        }

        /// Bytes of workspace.
        pub fn workspace(&self) -> usize {
            self.workspace
        }

        /// Submits one run. `inputs`: g, and w if there are weights.
        ///
        /// # Errors
        /// If lengths do not fit; a driver error.
        pub fn run(
            &self,
            gpu: &Gpu,
            inputs: &[Span<'_>],
            out: Span<'_>,
            workspace: Span<'_>,
        ) -> Result<(), GpuError> {
            let spans: Vec<_> = inputs.iter().copied().chain([workspace]).map(Some).collect();
            self.parts.run(gpu, &spans)?;
            self.last.run(gpu, &[Some(workspace), Some(out)])
        }
    }

    /// Clips n gradients. Spans: g, the sum of squares, the result, which may be g.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn clip(gpu: &Gpu, max: f64, n: usize) -> Result<Launch, GpuError> {
        let params = vec![
            span_of::<f32>("g", n),
            span_of::<f32>("sum of squares", 1),
            f64(max),
            f64(CLIP_EPS),
            i64(n),
            span_of::<f32>("out", n),
        ];
        // SAFETY: the kernel reads n gradients and one sum and writes n values.
        unsafe { Launch::new(gpu, "grad_norm", "clip_gradient", threads(n.div_ceil(PACK)), params) }
    }

    /// Perturbs n weights. Spans: w, g, the sum of squares, w', and with `copy` w' in bf16.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn perturb(gpu: &Gpu, rho: f64, copy: bool, n: usize) -> Result<Launch, GpuError> {
        let params = vec![
            span_of::<f32>("w", n),
            span_of::<f32>("g", n),
            span_of::<f32>("sum of squares", 1),
            f64(rho),
            f64(SAM_EPS),
            i64(n),
            span_of::<f32>("w'", n),
            if copy { Float::Bf16.span_of("w' in bf16", n) } else { NULL },
        ];
        // SAFETY: the kernel reads n weights and gradients and one sum and writes n weights, and n copies unless that is
        // null.
        unsafe { Launch::new(gpu, "grad_norm", "sam_perturb", threads(n.div_ceil(PACK)), params) }
    }
}
