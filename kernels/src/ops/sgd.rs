//! Stochastic gradient descent with momentum and weight decay, in the form of PyTorch's `torch.optim.SGD`:
//! d = g + λ·w; v ← μ·v + d; w ← w − lr·v (v starts at zero).

use crate::cpu::{Cpu, GRAIN, Real, copy_unless_in_place, for_parts2, simd::multiversion};

multiversion! {
    fn step<T: Real>(g: &[T], lr: T, momentum: T, decay: T, w: &mut [T], v: &mut [T]) {
        for ((w, v), &g) in w.iter_mut().zip(v).zip(g) {
            let d = g + decay * *w;
            *v = momentum * *v + d;
            *w = *w - lr * *v;
        }
    }
}

/// One step: the new weights and velocity. If `w` or `v` is `None`, the output holds the old values.
pub fn cpu<T: Real>(
    cpu: &Cpu,
    momentum: f64,
    decay: f64,
    w: Option<&[T]>,
    v: Option<&[T]>,
    g: &[T],
    lr: T,
    w_out: &mut [T],
    v_out: &mut [T],
) {
    for_parts2(cpu, w_out, GRAIN, v_out, GRAIN, |t, w_out, v_out| {
        copy_unless_in_place(w, t * GRAIN, w_out);
        copy_unless_in_place(v, t * GRAIN, v_out);
        step(cpu.simd, &g[t * GRAIN..], lr, T::of(momentum), T::of(decay), w_out, v_out);
    });
}

/// The CUDA kernels: `cuda/sgd.cu`.
pub mod cuda {
    use crate::gpu::launch::{Float, Launch, NULL, PACK, f32, i64, span_of, threads};
    use crate::gpu::{Gpu, GpuError};

    /// One step of n weights. Spans: w, v, g, the learning rate, w', v', and with `copy` w' in bf16; w' may be w and v'
    /// may be v.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn step(gpu: &Gpu, momentum: f64, decay: f64, copy: bool, n: usize) -> Result<Launch, GpuError> {
        let params = vec![
            span_of::<f32>("w", n),
            span_of::<f32>("v", n),
            span_of::<f32>("g", n),
            span_of::<f32>("lr", 1),
            i64(n),
            f32(momentum),
            f32(decay),
            span_of::<f32>("w'", n),
            span_of::<f32>("v'", n),
            if copy { Float::Bf16.span_of("w' in bf16", n) } else { NULL },
        ];
        // SAFETY: the kernel reads n weights, velocities and gradients and one rate, and writes n weights and
        // velocities, and n copies unless that is null.
        unsafe { Launch::new(gpu, "sgd", "sgd_f32", threads(n.div_ceil(PACK)), params) }
    }
}
