//! Stochastic gradient descent with momentum and weight decay, in the form of PyTorch's `torch.optim.SGD`:
//! d = g + λ·w; v ← μ·v + d; w ← w − lr·v (v starts at zero).

use crate::cpu::{Cpu, GRAIN, Real, copy_unless_in_place, for_parts2, simd::multiversion};

multiversion! {
    fn step<T: Real>(g: [Option<&[T]>; 2], lr: T, momentum: T, decay: T, w: &mut [T], v: &mut [T]) {
        match g {
            [Some(g), Some(more)] => {
                for (((w, v), &g), &more) in w.iter_mut().zip(v).zip(g).zip(more) {
                    let d = (g + more) + decay * *w;
                    *v = momentum * *v + d;
                    *w = *w - lr * *v;
                }
            }
            [Some(g), None] | [None, Some(g)] => {
                for ((w, v), &g) in w.iter_mut().zip(v).zip(g) {
                    let d = g + decay * *w;
                    *v = momentum * *v + d;
                    *w = *w - lr * *v;
                }
            }
            [None, None] => {
                for (w, v) in w.iter_mut().zip(v) {
                    *v = momentum * *v + decay * *w;
                    *w = *w - lr * *v;
                }
            }
        }
    }
}

/// One step with momentum and decay: the new weights and velocity. If `w` or `v` is `None`, the output holds the old values.
/// The gradient is the sum of two terms, of which `None` stands for zeros.
pub fn cpu<T: Real>(
    cpu: &Cpu,
    (momentum, decay): (f64, f64),
    (w, v): (Option<&[T]>, Option<&[T]>),
    g: [Option<&[T]>; 2],
    lr: T,
    (w_out, v_out): (&mut [T], &mut [T]),
) {
    for_parts2(cpu, w_out, GRAIN, v_out, GRAIN, |t, w_out, v_out| {
        copy_unless_in_place(w, t * GRAIN, w_out);
        copy_unless_in_place(v, t * GRAIN, v_out);
        let g = g.map(|g| g.map(|g| &g[t * GRAIN..]));
        step(cpu.simd, g, lr, T::of(momentum), T::of(decay), w_out, v_out);
    });
}

/// The CUDA kernel: `cuda/sgd.cu`.
pub mod cuda {
    use crate::gpu::launch::{Float, Launch, NULL, Param, Tensors, f32, span_of};
    use crate::gpu::{Gpu, GpuError};
    use crate::memory::Span;

    /// A tensor that a step updates.
    #[derive(Clone, Copy, Debug)]
    pub struct Tensor {
        /// Its number of weights.
        pub len: usize,
        /// Whether there is a gradient; else it is zero.
        pub gradient: bool,
        /// Whether there is a second term of it.
        pub more: bool,
        /// Whether a copy in bf16 is wanted.
        pub copy: bool,
    }

    /// Addresses of a tensor.
    const EACH: usize = 7;

    /// The launches that this many tensors take.
    pub fn launches(tensors: usize) -> usize {
        tensors.div_ceil(Tensors::most(EACH))
    }

    /// A prepared step of many tensors, in as few launches as their addresses fit into.
    #[derive(Debug)]
    pub struct Step {
        /// Each launch, and how many spans it takes besides the learning rate.
        launches: Vec<(Launch, usize)>,
    }

    impl Step {
        /// Prepares a step.
        ///
        /// # Errors
        /// Errors of compiling and loading the kernel.
        pub fn new(gpu: &Gpu, momentum: f64, decay: f64, tensors: &[Tensor]) -> Result<Self, GpuError> {
            let launches = tensors.chunks(Tensors::most(EACH)).map(|some| {
                let sizes: Vec<usize> = some.iter().map(|t| t.len).collect();
                let Tensors { params, size } = Tensors::new(gpu, &sizes)?;
                let pointers: Vec<Param> = some.iter().flat_map(addresses).collect();
                let spans = pointers.iter().filter(|p| matches!(p, Param::Span(..))).count();
                let mut all = vec![Param::Pointers(pointers)];
                all.extend(params);
                all.extend([span_of::<f32>("lr", 1), f32(momentum), f32(decay)]);
                // SAFETY: the kernel reads the weights, velocities and gradients of each tensor, as many as its size says,
                // and one rate, and writes as many weights, velocities and copies, all where these are not null.
                let launch = unsafe { Launch::new(gpu, "sgd", "sgd", size, all)? };
                Ok((launch, spans))
            });
            Ok(Self { launches: launches.collect::<Result<_, GpuError>>()? })
        }

        /// Submits one run. `spans`: of each tensor w, v, the terms of the gradient that there are, w', v' and the copy if it is wanted;
        /// w' may be w and v' may be v.
        ///
        /// # Errors
        /// If lengths do not fit; a driver error.
        pub fn run(&self, gpu: &Gpu, spans: &[Span<'_>], lr: Span<'_>) -> Result<(), GpuError> {
            let mut rest = spans;
            for (launch, n) in &self.launches {
                let (some, more) =
                    rest.split_at_checked(*n).ok_or_else(|| GpuError::shape("sgd", "spans are missing"))?;
                let all: Vec<_> = some.iter().copied().chain([lr]).map(Some).collect();
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
        let (g, more) = (optional(t.gradient, of("g")), optional(t.more, of("more")));
        [of("w"), of("v"), g, more, of("w'"), of("v'"), optional(t.copy, low)]
    }
}
