//! Counters that programs advance themselves, so that the host need not update them between runs.

/// `out[i]` = `x[i]` + `by`, wrapping.
pub fn cpu(x: &[i32], by: i32, out: &mut [i32]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = x.wrapping_add(by);
    }
}

/// Adds in place.
pub fn in_place(by: i32, out: &mut [i32]) {
    out.iter_mut().for_each(|o| *o = o.wrapping_add(by));
}

/// The CUDA kernels: `cuda/counter.cu`.
pub mod cuda {
    use crate::gpu::launch::{Launch, i32, i64, span_of, threads};
    use crate::gpu::{Gpu, GpuError};

    /// Advances n counters. Spans: x, the result, which may be x.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn advance(gpu: &Gpu, n: usize, by: i32) -> Result<Launch, GpuError> {
        let params = vec![span_of::<i32>("x", n), i32(by), i64(n), span_of::<i32>("out", n)];
        // SAFETY: the kernel reads and writes n values.
        unsafe { Launch::new(gpu, "counter", "counter_advance", threads(n), params) }
    }
}
