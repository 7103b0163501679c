//! Average pooling over windows of pixels, and its gradient.

use crate::cpu::{Cpu, GRAIN, Real, for_parts, simd::multiversion};
pub use crate::ops::windows::Windows;

/// What a window's sum is divided by.
#[inline(always)]
fn divisor(v: &Windows, pads: bool, row: usize, column: usize) -> f64 {
    let seen = v.seen(row, v.h).len() * v.seen(column, v.w).len();
    (if pads { v.size * v.size } else { seen }) as f64
}

multiversion! {
    /// A row of windows of one image.
    fn row<T: Real>(v: &Windows, pads: bool, r: usize, x: &[T], y: &mut [T]) {
        for (o, y) in y.chunks_exact_mut(v.c).enumerate() {
            y.fill(T::ZERO);
            for i in v.seen(r, v.h) {
                for j in v.seen(o, v.w) {
                    let x = &x[(i * v.w + j) * v.c..][..v.c];
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y += x);
                }
            }
            let by = T::of(divisor(v, pads, r, o));
            y.iter_mut().for_each(|y| *y = *y / by);
        }
    }
}

multiversion! {
    /// A row of pixels of one image.
    fn grad_row<T: Real>(v: &Windows, pads: bool, i: usize, dy: &[T], dx: &mut [T]) {
        let (oh, ow) = (v.oh(), v.ow());
        for (j, dx) in dx.chunks_exact_mut(v.c).enumerate() {
            dx.fill(T::ZERO);
            for r in v.seers(i, oh) {
                for o in v.seers(j, ow) {
                    let by = T::of(divisor(v, pads, r, o));
                    let dy = &dy[(r * ow + o) * v.c..][..v.c];
                    dx.iter_mut().zip(dy).for_each(|(dx, &dy)| *dx += dy / by);
                }
            }
        }
    }
}

/// y = the mean of each window, its pixels added row by row. If `pads`, padding pixels count as zeros; else the mean is
/// over the pixels inside the image (PyTorch's `count_include_pad`).
pub fn cpu<T: Real>(cpu: &Cpu, v: &Windows, pads: bool, x: &[T], y: &mut [T]) {
    let (oh, len, image) = (v.oh(), v.ow() * v.c, v.h * v.w * v.c);
    let rows = (GRAIN / len.max(1)).max(1);
    for_parts(cpu, y, rows * len, |t, y| {
        for (k, y) in y.chunks_exact_mut(len).enumerate() {
            let at = t * rows + k;
            row(cpu.simd, v, pads, at % oh, &x[at / oh * image..][..image], y);
        }
    });
}

/// dx from dy: for each pixel, the sum over the windows that contain it of their gradient divided by the window's
/// count.
pub fn grad_cpu<T: Real>(cpu: &Cpu, v: &Windows, pads: bool, dy: &[T], dx: &mut [T]) {
    let (len, image) = (v.w * v.c, v.oh() * v.ow() * v.c);
    let rows = (GRAIN / len.max(1)).max(1);
    for_parts(cpu, dx, rows * len, |t, dx| {
        for (k, dx) in dx.chunks_exact_mut(len).enumerate() {
            let at = t * rows + k;
            grad_row(cpu.simd, v, pads, at % v.h, &dy[at / v.h * image..][..image], dx);
        }
    });
}

/// The CUDA kernels: `cuda/avg_pool2d.cu`.
pub mod cuda {
    use super::Windows;
    use crate::gpu::launch::{Launch, i32, span_of, threads};
    use crate::gpu::{Gpu, GpuError};

    /// Forward pass. Spans: x, y.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn forward(gpu: &Gpu, v: &Windows, pads: bool) -> Result<Launch, GpuError> {
        let mut params = vec![span_of::<f32>("x", v.x_len())];
        params.extend(v.params("avg_pool2d")?);
        params.extend([i32(i32::from(pads)), span_of::<f32>("y", v.y_len())]);
        // SAFETY: the kernel reads pixels inside the images, x_len values in all, and writes y_len.
        unsafe { Launch::new(gpu, "avg_pool2d", "avg_pool2d", threads(v.y_len()), params) }
    }

    /// Gradient. Spans: dy, dx.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn grad(gpu: &Gpu, v: &Windows, pads: bool) -> Result<Launch, GpuError> {
        let mut params = vec![span_of::<f32>("dy", v.y_len())];
        params.extend(v.params("avg_pool2d")?);
        params.extend([i32(i32::from(pads)), span_of::<f32>("dx", v.x_len())]);
        // SAFETY: the kernel reads windows that there are, y_len values in all, and writes x_len.
        unsafe { Launch::new(gpu, "avg_pool2d", "avg_pool2d_grad", threads(v.x_len()), params) }
    }
}
