//! One outer step of PYLD (proximal YOPO-SGLD), from the gradient of the energy at the outer point.
//!
//! The first layer is affine, so the N inner steps use the same gradient g (Yang & Ji, ICCV 2021, algorithm 1):
//! N steps x ← clip(x + α·ĝ, ±1), ĝ = clip(g, ±ε), equal clip(clip(x + α·ĝ) + (N−1)·α·ĝ), for any x: after the
//! first the point is in the box, and the motion is monotone. An optional SGLD step goes before, noise after. With
//! bounds of 0, N = 1 and noise it is the step of plain SGLD, as JEM takes it: x ← x + α·g + σ·ξ.

use crate::cpu::{Cpu, GRAIN, Real, copy_unless_in_place, for_parts, simd::multiversion};
use crate::ops::noise::{Distribution, RandomSequence, draw};

/// The constants of the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Args {
    /// N: number of inner steps; 0 for none.
    pub inner: u32,
    /// α: step size.
    pub step_size: f64,
    /// ε: the gradient is clipped to ±ε elementwise; 0 for no bound.
    pub clip: f64,
    /// Whether each step is clipped to the box [−1, 1].
    pub boxed: bool,
    /// Step of the SGLD update before the inner steps; 0 for none.
    pub sgld_lr: f64,
    /// Standard deviation of the noise after them; 0 for none.
    pub noise: f64,
    /// Whether to clip to the box again after the noise (the published code does not).
    pub clip_after_noise: bool,
}

impl Args {
    /// The bounds on gradient and chain, infinite if there is none.
    fn bounds(&self) -> [f64; 2] {
        let clip = if self.clip > 0.0 { self.clip } else { f64::INFINITY };
        [clip, if self.boxed { 1.0 } else { f64::INFINITY }]
    }
}

multiversion! {
    fn moved<T: Real>(args: Args, g: &[T], x: &mut [T]) {
        let [eps, hi] = args.bounds().map(T::of);
        let lo = -hi;
        let (sgld, first) = (T::of(args.sgld_lr), T::of(args.step_size));
        let rest = T::of(args.step_size * f64::from(args.inner.saturating_sub(1)));
        for (x, &g) in x.iter_mut().zip(g) {
            let g = g.clip(-eps, eps);
            let mut v = *x;
            if args.sgld_lr > 0.0 {
                v = (v + sgld * g).clip(lo, hi);
            }
            if args.inner > 0 {
                v = (v + first * g).clip(lo, hi);
                v = (v + rest * g).clip(lo, hi);
            }
            *x = v;
        }
    }
}

multiversion! {
    fn step_with_noise<T: Real>(args: Args, sequence: RandomSequence, first: u64, x: &mut [T]) {
        let (lo, hi, sd) = (T::of(-1.0), T::of(1.0), T::of(args.noise));
        draw(sequence, Distribution::Normal, first, x, |x, z| {
            let v = *x + sd * T::of(f64::from(z));
            *x = if args.clip_after_noise { v.clip(lo, hi) } else { v };
        });
    }
}

/// x' from x and g. `x` = `None`: `out` holds x. `sequence` is needed if there is noise.
pub fn cpu<T: Real>(
    cpu: &Cpu,
    args: Args,
    x: Option<&[T]>,
    g: &[T],
    sequence: Option<RandomSequence>,
    out: &mut [T],
) {
    for_parts(cpu, out, GRAIN, |t, out| {
        let at = t * GRAIN;
        copy_unless_in_place(x, at, out);
        moved(cpu.simd, args, &g[at..], out);
        if let (true, Some(sequence)) = (args.noise > 0.0, sequence) {
            step_with_noise(cpu.simd, args, sequence, (at / 4) as u64, out);
        }
    });
}

/// The CUDA kernels: `cuda/pyld_step.cu`.
pub mod cuda {
    use super::Args;
    use crate::gpu::launch::{Float, Launch, NULL, PACK, f32, i32, i64, int, kernel, span_of, threads, u32};
    use crate::gpu::{Gpu, GpuError};

    /// x' of n elements from a gradient of type `float`. Spans: x, g, with noise also seed (2 words) and step (1), then
    /// x', which may be x.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn step(gpu: &Gpu, float: Float, args: Args, stream: u32, n: usize) -> Result<Launch, GpuError> {
        let noisy = args.noise > 0.0;
        let [clip, side] = args.bounds();
        let (seed, step) =
            if noisy { (span_of::<i32>("seed", 2), span_of::<i32>("step", 1)) } else { (NULL, NULL) };
        let params = vec![
            span_of::<f32>("x", n),
            float.span_of("g", n),
            i64(n),
            f32(clip),
            f32(side),
            f32(args.sgld_lr),
            i32(int("pyld_step", args.inner as usize)?),
            f32(args.step_size),
            f32(args.step_size * f64::from(args.inner.saturating_sub(1))),
            f32(if noisy { args.noise } else { 0.0 }),
            i32(args.clip_after_noise.into()),
            seed,
            step,
            u32(0),
            u32(stream),
            span_of::<f32>("out", n),
            NULL,
            NULL,
            NULL,
            i64(1),
        ];
        let (name, size) = (kernel!(float, "pyld_step"), threads(n.div_ceil(PACK)));
        // SAFETY: the kernel reads n chain values and gradients and writes n values; seed and step are read only where
        // there is noise; there is no second result and no buffer.
        unsafe { Launch::new(gpu, "pyld_step", name, size, params) }
    }
}
