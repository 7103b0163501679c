//! Mean over the pixels of each image and channel, and its gradient.

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
