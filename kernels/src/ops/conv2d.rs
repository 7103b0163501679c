//! 2-D convolution (cross-correlation, as in deep learning): NHWC images, K×R×S×C filters, zero padding; its
//! gradients with respect to input and filters are kernels of their own. Linear layers are the 1×1 case.
//!
//! On the CPU they are prepared objects; see `cpu::conv` for how they work.

pub use crate::conv_shape::ConvShape;
pub use crate::cpu::conv::{Add, Conv, ConvInput, ConvWeightGrad, Epilogue, EpilogueFn, Prologue};

/// The CUDA backend: cuBLAS where the convolution is a float32 matrix product, else cuDNN; `cuda/conv2d.cu` where these
/// are missing.
///
/// Images, filters, outputs and the gradients of images are of type `float`; biases and the gradients of filters are
/// float32.
pub mod cuda {
    use super::ConvShape;
    use crate::gpu::cublas::Product;
    pub use crate::gpu::cudnn_graph::ConvPass;
    use crate::gpu::cudnn_graph::{ConvSpec, Convolution};
    use crate::gpu::launch::{Float, Launch, i32, i64, int, kernel, span_of, threads};
    use crate::gpu::{Gpu, GpuError};
    use crate::memory::{GPU_ALIGN, Span};
    use crate::ops::cast;

    enum Algorithm {
        Product(Product),
        Cudnn(Box<Convolution>),
        /// The launch that overwrites the result, and the one that adds to it.
        Direct([Launch; 2]),
    }

    /// The gradient with respect to bf16 filters: cuDNN returns it in bf16, at the end of the workspace, and `cast`
    /// converts it.
    struct Widen {
        cast: Launch,
        at: usize,
        bytes: usize,
    }

    /// A prepared convolution or one of its gradients.
    pub struct Conv {
        pass: ConvPass,
        algorithm: Algorithm,
        /// Adds a bias to the result.
        bias: Launch,
        widen: Option<Widen>,
    }

    impl Conv {
        /// Prepares it with the best implementation that this device has. `adds`: whether runs are given a tensor to
        /// add; a bias may be given to each forward run.
        ///
        /// # Errors
        /// Errors of compiling and loading the kernel; the error of a library that is present and fails, on a device that
        /// [requires](Gpu::require_libraries) its libraries.
        pub fn new(
            gpu: &Gpu,
            pass: ConvPass,
            float: Float,
            shape: ConvShape,
            adds: bool,
        ) -> Result<Self, GpuError> {
            let tried = match product(pass, shape).filter(|_| float == Float::F32) {
                Some(product) => gpu.cublas().map(|_| Algorithm::Product(product)),
                None => {
                    let spec = ConvSpec { pass, float, shape, accumulate: adds };
                    Convolution::new(gpu, spec).map(|c| Algorithm::Cudnn(Box::new(c)))
                }
            };
            let algorithm = match tried {
                Ok(algorithm) => algorithm,
                Err(why) => {
                    gpu.falls_back("convolutions run on the project's own kernels, which are slower", why)?;
                    direct(gpu, pass, float, shape)?
                }
            };
            let widen = match &algorithm {
                Algorithm::Cudnn(conv) if (pass, float) == (ConvPass::WeightGrad, Float::Bf16) => {
                    let (at, n) = (conv.workspace().next_multiple_of(GPU_ALIGN), shape.w_len());
                    Some(Widen { cast: cast::cuda::to_f32(gpu, n)?, at, bytes: n * float.size() })
                }
                _ => None,
            };
            Ok(Self { pass, algorithm, bias: bias(gpu, float, shape)?, widen })
        }

        /// Prepares it with the project's own kernel: the reference for the other implementations.
        ///
        /// # Errors
        /// Errors of compiling and loading the kernel.
        pub fn direct(gpu: &Gpu, pass: ConvPass, float: Float, shape: ConvShape) -> Result<Self, GpuError> {
            let (algorithm, bias) = (direct(gpu, pass, float, shape)?, bias(gpu, float, shape)?);
            Ok(Self { pass, algorithm, bias, widen: None })
        }

        /// Bytes of workspace.
        pub fn workspace(&self) -> usize {
            match (&self.algorithm, &self.widen) {
                (_, Some(widen)) => widen.at + widen.bytes,
                (Algorithm::Cudnn(conv), None) => conv.workspace(),
                _ => 0,
            }
        }

        /// Submits one run on both inputs (see [`ConvPass`]): the result, plus `bias` and `add`. `add` may be `out`.
        ///
        /// # Errors
        /// If lengths do not fit, or a bias is given to a gradient; an error of a library or the driver.
        pub fn run(
            &self,
            gpu: &Gpu,
            (a, b): (Span<'_>, Span<'_>),
            bias: Option<Span<'_>>,
            add: Option<Span<'_>>,
            out: Span<'_>,
            workspace: Span<'_>,
        ) -> Result<(), GpuError> {
            if bias.is_some() && self.pass != ConvPass::Forward {
                return Err(GpuError::shape("conv2d", "a gradient has no bias"));
            }
            // A tensor to add is where the result will be, as it is in programs wherever nothing else needs it.
            if let Some(add) = add.filter(|add| add.address() != out.address()) {
                gpu.copy(add, out)?;
            }
            // The bias goes to that first, so that what is rounded last is the whole sum.
            let (first, last) = if add.is_some() { (bias, None) } else { (None, bias) };
            if first.is_some() {
                self.bias.run(gpu, &[first, Some(out)])?;
            }
            self.convolve(gpu, (a, b), add.is_some(), out, workspace)?;
            if last.is_some() {
                self.bias.run(gpu, &[last, Some(out)])?;
            }
            Ok(())
        }

        /// The result alone, or with `more` added to what `out` holds.
        fn convolve(
            &self,
            gpu: &Gpu,
            (a, b): (Span<'_>, Span<'_>),
            more: bool,
            out: Span<'_>,
            workspace: Span<'_>,
        ) -> Result<(), GpuError> {
            match &self.algorithm {
                Algorithm::Product(product) => {
                    let (a, b) = if self.pass == ConvPass::WeightGrad { (b, a) } else { (a, b) };
                    gpu.cublas()?.product(gpu, *product, (a, b), more, out)
                }
                Algorithm::Cudnn(conv) if conv.accumulates() != more => {
                    let reason = if more { "it was not prepared to add" } else { "there is nothing to add" };
                    Err(GpuError::shape("conv2d", reason))
                }
                Algorithm::Cudnn(conv) => match &self.widen {
                    None => conv.run(gpu, (a, b), out, workspace),
                    Some(_) if more => {
                        Err(GpuError::shape("conv2d", "the gradient of bf16 filters cannot be accumulated"))
                    }
                    Some(widen) => {
                        let part = |at, len| {
                            let part = workspace.part(at, len);
                            part.ok_or_else(|| GpuError::shape("conv2d", "the workspace is too small"))
                        };
                        let low = part(widen.at, widen.bytes)?;
                        conv.run(gpu, (a, b), low, part(0, conv.workspace())?)?;
                        widen.cast.run(gpu, &[Some(low), Some(out)])
                    }
                },
                Algorithm::Direct(launch) => launch[usize::from(more)].run(gpu, &[a, b, out].map(Some)),
            }
        }
    }

    impl core::fmt::Debug for Conv {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            let algorithm = match &self.algorithm {
                Algorithm::Product(product) => format!("cuBLAS, {product:?}"),
                Algorithm::Cudnn(conv) => format!("cuDNN, {}", conv.algorithm()),
                Algorithm::Direct(_) => "direct".to_owned(),
            };
            write!(f, "Conv({:?}, {algorithm})", self.pass)
        }
    }

    /// A 1×1 convolution as a matrix product.
    fn product(pass: ConvPass, shape: ConvShape) -> Option<Product> {
        let ConvShape { n, h, w, c, k, .. } = shape;
        if (shape.r, shape.s, shape.stride, shape.pad) != (1, 1, 1, 0) {
            return None;
        }
        let pixels = n * h * w;
        let of = |rows, inner, cols, a_transposed, b_transposed| {
            Some(Product { rows, inner, cols, a_transposed, b_transposed })
        };
        match pass {
            // y[p, k] = Σ_c x[p, c]·w[k, c]
            ConvPass::Forward => of(pixels, c, k, false, true),
            // dx[p, c] = Σ_k dy[p, k]·w[k, c]
            ConvPass::InputGrad => of(pixels, k, c, false, false),
            // dw[k, c] = Σ_p dy[p, k]·x[p, c]
            ConvPass::WeightGrad => of(k, pixels, c, true, false),
        }
    }

    /// Adds a bias to the result of a forward pass. Spans: the bias, the result.
    fn bias(gpu: &Gpu, float: Float, shape: ConvShape) -> Result<Launch, GpuError> {
        let (n, k) = (shape.y_len(), shape.k);
        let params = vec![
            span_of::<f32>("bias", k),
            i64(n / k.max(1)),
            i32(int("conv2d", k)?),
            float.span_of("out", n),
        ];
        let size = threads(n.div_ceil(float.pack()));
        // SAFETY: the kernel reads as many biases as there are channels, and reads and writes n values.
        unsafe { Launch::new(gpu, "conv2d", kernel!(float, "conv2d_bias"), size, params) }
    }

    fn direct(gpu: &Gpu, pass: ConvPass, float: Float, shape: ConvShape) -> Result<Algorithm, GpuError> {
        let (x, w, y) = (
            float.span_of("x", shape.x_len()),
            float.span_of("w", shape.w_len()),
            float.span_of("y", shape.y_len()),
        );
        let dw = span_of::<f32>("dw", shape.w_len());
        let (name, a, b, out, n) = match pass {
            ConvPass::Forward => (kernel!(float, "conv2d_forward"), x, w, y, shape.y_len()),
            ConvPass::InputGrad => (kernel!(float, "conv2d_input_grad"), y, w, x, shape.x_len()),
            ConvPass::WeightGrad => (kernel!(float, "conv2d_weight_grad"), x, y, dw, shape.w_len()),
        };
        let ConvShape { n: images, h, w, c, k, r, s, stride, pad } = shape;
        let sizes = [images, h, w, c, k, r, s, stride, pad, shape.oh(), shape.ow()];
        let sizes = sizes.iter().map(|&n| int("conv2d", n).map(i32)).collect::<Result<Vec<_>, _>>()?;
        let launch = |more: i32| {
            let mut params = vec![a.clone(), b.clone(), i32(more)];
            params.extend(sizes.iter().cloned());
            params.push(out.clone());
            // SAFETY: the kernel reads two tensors of the shape and writes (and with `more` reads) the third; taps
            // outside an image are skipped.
            unsafe { Launch::new(gpu, "conv2d", name, threads(n), params) }
        };
        Ok(Algorithm::Direct([launch(0)?, launch(1)?]))
    }
}
