//! What a residual stream lacks if convolutions leave out their biases: a constant for each channel.

use crate::cpu::Real;

/// `out[k]` = `bias[k]` + `before[k]`; with the filters `w[k, c]` and the bias of a 1×1 shortcut, `before[c]` goes through
/// these: `out[k]` = `bias[k]` + (`short[k]` + Σ_c `w[k, c]`·`before[c]`).
pub fn cpu<T: Real>(before: &[T], bias: &[T], shortcut: Option<(&[T], &[T])>, out: &mut [T]) {
    match shortcut {
        None => out.iter_mut().zip(bias).zip(before).for_each(|((o, b), v)| *o = *b + *v),
        Some((w, short)) => {
            let rows = w.chunks_exact(before.len().max(1)).zip(bias).zip(short);
            for (o, ((w, bias), short)) in out.iter_mut().zip(rows) {
                let sum = w.iter().zip(before).fold(T::ZERO, |sum, (w, v)| sum + *w * *v);
                *o = *bias + (*short + sum);
            }
        }
    }
}

/// The CUDA kernel: `cuda/bias_offset.cu`.
pub mod cuda {
    use crate::gpu::launch::{Float, Launch, NULL, i32, int, kernel, span_of, warps};
    use crate::gpu::{Gpu, GpuError};

    /// From c channels to k; `shortcut`: by filters of type `float`, else c is k. Spans: before, bias, with a shortcut its
    /// filters and bias; the result.
    ///
    /// # Errors
    /// If c is not k without a shortcut; errors of compiling and loading the kernel.
    pub fn offset(
        gpu: &Gpu,
        float: Float,
        (c, k): (usize, usize),
        shortcut: bool,
    ) -> Result<Launch, GpuError> {
        if !shortcut && c != k {
            return Err(GpuError::shape("bias_offset", format!("{c} channels do not become {k}")));
        }
        let (w, short) = match shortcut {
            true => (float.span_of("w", k * c), span_of::<f32>("short", k)),
            false => (NULL, NULL),
        };
        let (before, bias) = (span_of::<f32>("before", c), span_of::<f32>("bias", k));
        let (ints, out) = ([c, k].map(|n| int("bias_offset", n).map(i32)), span_of::<f32>("out", k));
        let [c, channels] = ints;
        let params = vec![before, bias, w, short, c?, channels?, out];
        // SAFETY: the kernel reads c and k values and, unless these are null, k × c filters and k biases; without filters c
        // is k. It writes k values.
        unsafe { Launch::new(gpu, "bias_offset", kernel!(float, "bias_offset"), warps(k), params) }
    }
}
