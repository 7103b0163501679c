//! Adam (Kingma & Ba, 2015) with weight decay, in the form of PyTorch's `torch.optim.Adam`. With d = g + λ·w, t the
//! number of this step, from 1, and both moments zero at the start: m ← β₁·m + (1 − β₁)·d; v ← β₂·v + (1 − β₂)·d²; w ←
//! w − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε).
//!
//! The number of steps done is kept in memory beside the moments, so that a captured program needs nothing from the
//! host.

use crate::cpu::{Cpu, GRAIN, Real, copy_unless_in_place, for_parts3, simd::multiversion};

/// The constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Args {
    /// β₁: decay rate of the first moment.
    pub beta1: f64,
    /// β₂: decay rate of the second moment.
    pub beta2: f64,
    /// ε: added to the denominator.
    pub eps: f64,
    /// λ: weight decay.
    pub decay: f64,
}

/// The constants of one step in the type of the weights.
#[derive(Clone, Copy)]
struct Step<T> {
    /// β and 1 − β of both moments.
    first: [T; 2],
    second: [T; 2],
    eps: T,
    decay: T,
    /// lr/(1 − β₁ᵗ).
    rate: T,
    /// √(1 − β₂ᵗ).
    root: T,
}

multiversion! {
    fn step<T: Real>(s: Step<T>, g: &[T], w: &mut [T], m: &mut [T], v: &mut [T]) {
        for (((w, m), v), &g) in w.iter_mut().zip(m).zip(v).zip(g) {
            let d = g + s.decay * *w;
            *m = s.first[0] * *m + s.first[1] * d;
            *v = s.second[0] * *v + s.second[1] * (d * d);
            *w = *w - s.rate * *m / (v.sqrt() / s.root + s.eps);
        }
    }
}

/// βᵗ by repeated squaring, lowest bit first, so that the result is the same on every machine.
fn power(mut base: f64, mut exponent: u32) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent % 2 == 1 {
            result *= base;
        }
        base *= base;
        exponent /= 2;
    }
    result
}

/// One step: the new weights and moments, `done` steps having gone before. If `w`, `m` or `v` is `None`, the output
/// holds the old values.
pub fn cpu<T: Real>(
    cpu: &Cpu,
    args: Args,
    [w, m, v]: [Option<&[T]>; 3],
    g: &[T],
    lr: T,
    done: i32,
    [w_out, m_out, v_out]: [&mut [T]; 3],
) {
    let t = (done as u32).wrapping_add(1);
    let shares = |beta: f64| [T::of(beta), T::of(1.0 - beta)];
    let constants = Step {
        first: shares(args.beta1),
        second: shares(args.beta2),
        eps: T::of(args.eps),
        decay: T::of(args.decay),
        rate: T::of(lr.to_f64() / (1.0 - power(args.beta1, t))),
        root: T::of((1.0 - power(args.beta2, t)).sqrt()),
    };
    for_parts3(cpu, w_out, GRAIN, m_out, GRAIN, v_out, GRAIN, |t, w_out, m_out, v_out| {
        for (old, out) in [(w, &mut *w_out), (m, &mut *m_out), (v, &mut *v_out)] {
            copy_unless_in_place(old, t * GRAIN, out);
        }
        step(cpu.simd, constants, &g[t * GRAIN..], w_out, m_out, v_out);
    });
}

/// The CUDA kernels: `cuda/adam.cu`.
pub mod cuda {
    use super::Args;
    use crate::gpu::launch::{Float, Launch, NULL, PACK, f32, f64, i64, span_of, threads};
    use crate::gpu::{Gpu, GpuError};

    /// One step of n weights. Spans: w, m, v, g, the learning rate, the number of steps done, w', m', v', and with
    /// `copy` w' in bf16; each of w', m', v' may be the old one.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn step(gpu: &Gpu, args: Args, copy: bool, n: usize) -> Result<Launch, GpuError> {
        let params = vec![
            span_of::<f32>("w", n),
            span_of::<f32>("m", n),
            span_of::<f32>("v", n),
            span_of::<f32>("g", n),
            span_of::<f32>("lr", 1),
            span_of::<i32>("steps done", 1),
            i64(n),
            f64(args.beta1),
            f64(args.beta2),
            f32(args.eps),
            f32(args.decay),
            span_of::<f32>("w'", n),
            span_of::<f32>("m'", n),
            span_of::<f32>("v'", n),
            if copy { Float::Bf16.span_of("w' in bf16", n) } else { NULL },
        ];
        // SAFETY: the kernel reads n weights, moments of both orders and gradients, one rate and one number, and writes
        // n weights and moments of both orders, and n copies unless that is null.
        unsafe { Launch::new(gpu, "adam", "adam_f32", threads(n.div_ceil(PACK)), params) }
    }
}
