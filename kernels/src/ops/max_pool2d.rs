//! Max pooling over windows of pixels, and its gradient.
//!
//! Invariant: a NaN is larger than any number; of equal values the first counts, row by row, as in PyTorch.

use crate::cpu::{Cpu, GRAIN, Real, for_parts, simd::multiversion};
pub use crate::ops::windows::Windows;
use core::ops::Range;

/// Channels processed together in the gradient.
const LANES: usize = 16;

/// Whether `x` replaces the largest value so far.
#[inline(always)]
fn beats<T: Real>(x: T, best: T) -> bool {
    x > best || x.partial_cmp(&x).is_none()
}

multiversion! {
    /// A row of windows of one image.
    fn row<T: Real>(v: &Windows, r: usize, x: &[T], y: &mut [T]) {
        for (o, y) in y.chunks_exact_mut(v.c).enumerate() {
            let (rows, columns) = (v.seen(r, v.h), v.seen(o, v.w));
            y.copy_from_slice(&x[(rows.start * v.w + columns.start) * v.c..][..v.c]);
            for i in rows {
                for j in columns.clone() {
                    let x = &x[(i * v.w + j) * v.c..][..v.c];
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y = if beats(x, *y) { x } else { *y });
                }
            }
        }
    }
}

/// Adds dy of a window to the pixel that it takes its value from, in L channels from `at` on.
#[inline(always)]
fn scatter<T: Real, const L: usize>(
    v: &Windows,
    (rows, columns): (Range<usize>, Range<usize>),
    at: usize,
    x: &[T],
    dy: &[T],
    dx: &mut [T],
) {
    let first = rows.start * v.w + columns.start;
    let (mut best, mut from) = ([T::ZERO; L], [first as u32; L]);
    best.copy_from_slice(&x[first * v.c + at..][..L]);
    for i in rows.clone() {
        for j in columns.clone() {
            let (pixel, x) = ((i * v.w + j) as u32, &x[(i * v.w + j) * v.c + at..][..L]);
            for k in 0..L {
                let better = beats(x[k], best[k]);
                best[k] = if better { x[k] } else { best[k] };
                from[k] = if better { pixel } else { from[k] };
            }
        }
    }
    for i in rows {
        for j in columns.clone() {
            let (pixel, dx) = ((i * v.w + j) as u32, &mut dx[(i * v.w + j) * v.c + at..][..L]);
            for k in 0..L {
                dx[k] += if from[k] == pixel { dy[at + k] } else { T::ZERO };
            }
        }
    }
}

multiversion! {
    /// One image.
    fn grad_image<T: Real>(v: &Windows, x: &[T], dy: &[T], dx: &mut [T]) {
        dx.fill(T::ZERO);
        let (ow, whole) = (v.ow(), v.c / LANES * LANES);
        for (o, dy) in dy.chunks_exact(v.c).enumerate() {
            let window = (v.seen(o / ow, v.h), v.seen(o % ow, v.w));
            for at in (0..whole).step_by(LANES) {
                scatter::<T, LANES>(v, window.clone(), at, x, dy, dx);
            }
            for at in whole..v.c {
                scatter::<T, 1>(v, window.clone(), at, x, dy, dx);
            }
        }
    }
}

/// y = the largest value of each window in each channel; padding pixels are ignored.
pub fn cpu<T: Real>(cpu: &Cpu, v: &Windows, x: &[T], y: &mut [T]) {
    let (oh, len, image) = (v.oh(), v.ow() * v.c, v.h * v.w * v.c);
    let rows = (GRAIN / len.max(1)).max(1);
    for_parts(cpu, y, rows * len, |t, y| {
        for (k, y) in y.chunks_exact_mut(len).enumerate() {
            let at = t * rows + k;
            row(cpu.simd, v, at % oh, &x[at / oh * image..][..image], y);
        }
    });
}

/// dx from x and dy: each pixel gets dy of the windows that take their value from it, added row by row.
pub fn grad_cpu<T: Real>(cpu: &Cpu, v: &Windows, x: &[T], dy: &[T], dx: &mut [T]) {
    let (image, windows) = (v.h * v.w * v.c, v.oh() * v.ow() * v.c);
    for_parts(cpu, dx, image, |t, dx| {
        grad_image(cpu.simd, v, &x[t * image..][..image], &dy[t * windows..][..windows], dx);
    });
}

/// The CUDA kernels: `cuda/max_pool2d.cu`.
pub mod cuda {
    use super::Windows;
    use crate::gpu::launch::{Launch, span_of, threads};
    use crate::gpu::{Gpu, GpuError};

    /// Forward pass. Spans: x, y.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn forward(gpu: &Gpu, v: &Windows) -> Result<Launch, GpuError> {
        let mut params = vec![span_of::<f32>("x", v.x_len())];
        params.extend(v.params("max_pool2d")?);
        params.push(span_of::<f32>("y", v.y_len()));
        // SAFETY: the kernel reads pixels inside the images, x_len values in all, and writes y_len.
        unsafe { Launch::new(gpu, "max_pool2d", "max_pool2d", threads(v.y_len()), params) }
    }

    /// dx. Spans: x, dy, dx.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn grad(gpu: &Gpu, v: &Windows) -> Result<Launch, GpuError> {
        let mut params = vec![span_of::<f32>("x", v.x_len()), span_of::<f32>("dy", v.y_len())];
        params.extend(v.params("max_pool2d")?);
        params.push(span_of::<f32>("dx", v.x_len()));
        // SAFETY: the kernel reads x_len values of x and y_len of dy, and writes x_len.
        unsafe { Launch::new(gpu, "max_pool2d", "max_pool2d_grad", threads(v.x_len()), params) }
    }
}

#[cfg(test)]
mod tests;
