//! Gathering the logit of the label, its transpose, and counting correct predictions. A label outside `0..c` gives NaN
//! (and counts as wrong).

use crate::cpu::Real;

fn index(label: i32, c: usize) -> Option<usize> {
    usize::try_from(label).ok().filter(|&l| l < c)
}

/// `y[n] = x[n, label[n]]`.
pub fn gather<T: Real>(c: usize, x: &[T], label: &[i32], y: &mut [T]) {
    for ((y, x), &l) in y.iter_mut().zip(x.chunks_exact(c)).zip(label) {
        *y = index(l, c).map_or(T::of(f64::NAN), |l| x[l]);
    }
}

/// `x[n, c]` = `v[n]` where c = `label[n]`, else 0.
pub fn scatter<T: Real>(c: usize, v: &[T], label: &[i32], x: &mut [T]) {
    x.fill(T::ZERO);
    for ((x, &v), &l) in x.chunks_exact_mut(c).zip(v).zip(label) {
        match index(l, c) {
            Some(l) => x[l] = v,
            None => x.fill(T::of(f64::NAN)),
        }
    }
}

/// `y[n]` = 1 where the largest logit (the first of equals) is the label's, else 0.
pub fn hits<T: Real>(c: usize, x: &[T], label: &[i32], y: &mut [T]) {
    for ((y, x), &l) in y.iter_mut().zip(x.chunks_exact(c)).zip(label) {
        let best = x.iter().enumerate().fold(0, |b, (i, v)| if *v > x[b] { i } else { b });
        *y = if index(l, c) == Some(best) { T::ONE } else { T::ZERO };
    }
}

/// The CUDA kernels: `cuda/label.cu`.
pub mod cuda {
    use crate::gpu::launch::{Launch, i32, i64, int, span_of, threads, warps};
    use crate::gpu::{Gpu, GpuError};

    /// `y[n] = x[n, label[n]]`. Spans: x, label, y.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn gather(gpu: &Gpu, n: usize, c: usize) -> Result<Launch, GpuError> {
        let classes = i32(int("label", c)?);
        let params = vec![
            span_of::<f32>("x", n * c),
            span_of::<i32>("label", n),
            i64(n),
            classes,
            span_of::<f32>("y", n),
        ];
        // SAFETY: the kernel reads n labels and of n × c logits only those inside a row; it writes n values.
        unsafe { Launch::new(gpu, "label", "label_gather_f32", threads(n), params) }
    }

    /// `x[n, c]` = `v[n]` at the label, else 0. Spans: v, label, x.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn scatter(gpu: &Gpu, n: usize, c: usize) -> Result<Launch, GpuError> {
        let classes = i32(int("label", c)?);
        let params = vec![
            span_of::<f32>("v", n),
            span_of::<i32>("label", n),
            i64(n),
            classes,
            span_of::<f32>("x", n * c),
        ];
        // SAFETY: the kernel reads n values and labels and writes n × c values.
        unsafe { Launch::new(gpu, "label", "label_scatter_f32", threads(n * c), params) }
    }

    /// `y[n]` = 1 where the largest logit is the label's. Spans: x, label, y.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn hits(gpu: &Gpu, n: usize, c: usize) -> Result<Launch, GpuError> {
        let classes = i32(int("label", c)?);
        let params = vec![
            span_of::<f32>("x", n * c),
            span_of::<i32>("label", n),
            i64(n),
            classes,
            span_of::<f32>("y", n),
        ];
        // SAFETY: the kernel reads n × c logits and n labels and writes n values; the block is whole warps.
        unsafe { Launch::new(gpu, "label", "label_hits_f32", warps(n), params) }
    }
}
