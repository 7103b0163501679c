//! Global average pooling: the mean over the pixels of each image and channel, and its gradient.

use crate::cpu::{Cpu, Real, for_parts};

/// y[n, c] = mean over pixels of x[n, pixel, c]; pixels are added in order.
pub fn cpu<T: Real>(cpu: &Cpu, pixels: usize, c: usize, x: &[T], y: &mut [T]) {
    let factor = T::of(1.0 / pixels as f64);
    let images = (crate::cpu::GRAIN / (pixels * c).max(1)).max(1);
    for_parts(cpu, y, images * c, |t, y| {
        let x = &x[t * images * pixels * c..];
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(pixels * c)) {
            y.fill(T::ZERO);
            for x in x.chunks_exact(c) {
                y.iter_mut().zip(x).for_each(|(y, &x)| *y += x);
            }
            y.iter_mut().for_each(|y| *y = *y * factor);
        }
    });
}

/// dx[n, pixel, c] = dy[n, c] / pixels.
pub fn grad_cpu<T: Real>(cpu: &Cpu, pixels: usize, c: usize, dy: &[T], dx: &mut [T]) {
    let factor = T::of(1.0 / pixels as f64);
    for_parts(cpu, dx, pixels * c, |n, dx| {
        for dx in dx.chunks_exact_mut(c) {
            dx.iter_mut().zip(&dy[n * c..]).for_each(|(d, &g)| *d = g * factor);
        }
    });
}

/// The CUDA kernels: `cuda/global_avg_pool.cu`.
pub mod cuda {
    use crate::gpu::launch::{Float, Launch, f32, i32, i64, int, kernel, span_of, threads};
    use crate::gpu::{Gpu, GpuError};

    fn packs(float: Float, c: usize) -> usize {
        if c.is_multiple_of(float.pack()) { c / float.pack() } else { c }
    }

    /// n × c means over the pixels, in float32. Spans: x, y.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn forward(gpu: &Gpu, float: Float, n: usize, pixels: usize, c: usize) -> Result<Launch, GpuError> {
        let (p, channels) = (int("global_avg_pool", pixels)?, int("global_avg_pool", c)?);
        let params = vec![
            float.span_of("x", n * pixels * c),
            i64(n),
            i32(p),
            i32(channels),
            f32(1.0 / pixels as f64),
            span_of::<f32>("y", n * c),
        ];
        let (name, size) = (kernel!(float, "global_avg_pool"), threads(n * packs(float, c)));
        // SAFETY: the kernel reads n × pixels × c values and writes n × c.
        unsafe { Launch::new(gpu, "global_avg_pool", name, size, params) }
    }

    /// The gradient, from float32. Spans: dy, dx.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn grad(gpu: &Gpu, float: Float, n: usize, pixels: usize, c: usize) -> Result<Launch, GpuError> {
        let (p, channels) = (int("global_avg_pool", pixels)?, int("global_avg_pool", c)?);
        let params = vec![
            span_of::<f32>("dy", n * c),
            i64(n),
            i32(p),
            i32(channels),
            f32(1.0 / pixels as f64),
            float.span_of("dx", n * pixels * c),
        ];
        let (name, size) = (kernel!(float, "global_avg_pool_grad"), threads(n * pixels * packs(float, c)));
        // SAFETY: the kernel reads n × c values and writes n × pixels × c.
        unsafe { Launch::new(gpu, "global_avg_pool", name, size, params) }
    }
}
