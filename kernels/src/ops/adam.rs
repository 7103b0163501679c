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
    fn step<T: Real>(s: Step<T>, g: Option<&[T]>, w: &mut [T], m: &mut [T], v: &mut [T]) {
        match g {
            Some(g) => {
                for (((w, m), v), &g) in w.iter_mut().zip(m).zip(v).zip(g) {
                    one(s, g + s.decay * *w, w, m, v);
                }
            }
            None => {
                for ((w, m), v) in w.iter_mut().zip(m).zip(v) {
                    one(s, s.decay * *w, w, m, v);
                }
            }
        }
    }
}

#[inline(always)]
fn one<T: Real>(s: Step<T>, d: T, w: &mut T, m: &mut T, v: &mut T) {
    *m = s.first[0] * *m + s.first[1] * d;
    *v = s.second[0] * *v + s.second[1] * (d * d);
    *w = *w - s.rate * *m / (v.sqrt() / s.root + s.eps);
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
/// holds the old values. `g` = `None` stands for zeros.
pub fn cpu<T: Real>(
    cpu: &Cpu,
    args: Args,
    [w, m, v]: [Option<&[T]>; 3],
    g: Option<&[T]>,
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
        step(cpu.simd, constants, g.map(|g| &g[t * GRAIN..]), w_out, m_out, v_out);
    });
}

/// The CUDA kernel: `cuda/adam.cu`.
pub mod cuda {
    use super::Args;
    use crate::gpu::launch::{Float, Launch, NULL, Param, Tensors, f32, f64, span_of};
    use crate::gpu::{Gpu, GpuError};
    use crate::memory::Span;
    use crate::ops::sgd::cuda::Tensor;

    /// Addresses of a tensor.
    const EACH: usize = 8;

    /// The launches that this many tensors take.
    pub fn launches(tensors: usize) -> usize {
        tensors.div_ceil(Tensors::most(EACH))
    }

    /// A prepared step of many tensors, in as few launches as their addresses fit into.
    #[derive(Debug)]
    pub struct Step {
        /// Each launch, and how many spans it takes besides the learning rate and the number of steps.
        launches: Vec<(Launch, usize)>,
    }

    impl Step {
        /// Prepares a step.
        ///
        /// # Errors
        /// Errors of compiling and loading the kernel.
        pub fn new(gpu: &Gpu, args: Args, tensors: &[Tensor]) -> Result<Self, GpuError> {
            let launches = tensors.chunks(Tensors::most(EACH)).map(|some| {
                let sizes: Vec<usize> = some.iter().map(|t| t.len).collect();
                let Tensors { params, size } = Tensors::new(gpu, &sizes)?;
                let pointers: Vec<Param> = some.iter().flat_map(addresses).collect();
                let spans = pointers.iter().filter(|p| matches!(p, Param::Span(..))).count();
                let mut all = vec![Param::Pointers(pointers)];
                all.extend(params);
                all.extend([span_of::<f32>("lr", 1), span_of::<i32>("steps done", 1)]);
                all.extend([f64(args.beta1), f64(args.beta2), f32(args.eps), f32(args.decay)]);
                // SAFETY: the kernel reads the weights, moments and gradients of each tensor, as many as its size says, one
                // rate and one number, and writes as many weights, moments and copies, all where these are not null.
                let launch = unsafe { Launch::new(gpu, "adam", "adam", size, all)? };
                Ok((launch, spans))
            });
            Ok(Self { launches: launches.collect::<Result<_, GpuError>>()? })
        }

        /// Submits one run. `spans`: of each tensor w, m, v, the gradient if there is one, w', m', v' and the copy if it is
        /// wanted; each of w', m', v' may be the old one. Then the learning rate and the number of steps done.
        ///
        /// # Errors
        /// If lengths do not fit; a driver error.
        pub fn run(
            &self,
            gpu: &Gpu,
            spans: &[Span<'_>],
            lr: Span<'_>,
            done: Span<'_>,
        ) -> Result<(), GpuError> {
            let mut rest = spans;
            for (launch, n) in &self.launches {
                let (some, more) =
                    rest.split_at_checked(*n).ok_or_else(|| GpuError::shape("adam", "spans are missing"))?;
                let all: Vec<_> = some.iter().copied().chain([lr, done]).map(Some).collect();
                launch.run(gpu, &all)?;
                rest = more;
            }
            Ok(())
        }
    }

    fn addresses(t: &Tensor) -> [Param; EACH] {
        let of = |what| span_of::<f32>(what, t.len);
        let low = Float::Bf16.span_of("w' in bf16", t.len);
        let optional = |given, param| if given { param } else { NULL };
        let (g, low) = (optional(t.gradient, of("g")), optional(t.copy, low));
        [of("w"), of("m"), of("v"), g, of("w'"), of("m'"), of("v'"), low]
    }
}
