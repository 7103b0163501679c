//! 2-D convolution (cross-correlation, as in deep learning): NHWC images, K×R×S×C filters, zero padding; its
//! gradients with respect to input and filters are kernels of their own. Linear layers are the 1×1 case.
//!
//! The CPU arms are prepared objects; see [`crate::cpu::conv`] for how they work.

pub use crate::cpu::conv::{Add, Conv, ConvShape, ConvWeightGrad};

/// The CUDA arm: cuBLAS for what is a matrix product, else cuDNN, and `cuda/conv2d.cu` where they are missing.
pub mod cuda {
    use super::ConvShape;
    use crate::gpu::blas::Product;
    use crate::gpu::cudnn::Convolution;
    pub use crate::gpu::cudnn::Gives;
    use crate::gpu::launch::{Launch, i32, i64, int, maybe, of, threads};
    use crate::gpu::{Gpu, GpuError};
    use crate::memory::Span;

    enum Way {
        Product(Product),
        Cudnn(Box<Convolution>),
        /// From nothing, and added to what there is.
        Direct([Launch; 2]),
    }

    /// A prepared convolution or one of its gradients.
    pub struct Conv {
        gives: Gives,
        way: Way,
        begin: Launch,
    }

    impl Conv {
        /// By the best way there is on this device.
        ///
        /// # Errors
        /// What compiling and loading give; what a library answers that is there and fails.
        pub fn new(gpu: &Gpu, gives: Gives, shape: ConvShape) -> Result<Self, GpuError> {
            let tried = match product(gives, shape) {
                Some(product) => gpu.blas().map(|_| Way::Product(product)),
                None => Convolution::new(gpu, gives, shape).map(|c| Way::Cudnn(Box::new(c))),
            };
            let way = match tried {
                Ok(way) => way,
                Err(why) => {
                    let why = match &why {
                        GpuError::NoCuda(why) => why.brief(),
                        why => why.to_string(),
                    };
                    gpu.note(format!("convolutions by the project's own kernels, which are slower: {why}"));
                    direct(gpu, gives, shape)?
                }
            };
            Ok(Self { gives, way, begin: begin(gpu, gives, shape)? })
        }

        /// By the project's own kernel: the oracle of the other ways.
        ///
        /// # Errors
        /// What compiling and loading give.
        pub fn direct(gpu: &Gpu, gives: Gives, shape: ConvShape) -> Result<Self, GpuError> {
            Ok(Self { gives, way: direct(gpu, gives, shape)?, begin: begin(gpu, gives, shape)? })
        }

        /// Bytes of workspace.
        pub fn workspace(&self) -> usize {
            if let Way::Cudnn(conv) = &self.way { conv.workspace() } else { 0 }
        }

        /// Asks for one run on both inputs (see [`Gives`]): the result, plus `bias` and `add`. `add` may be `out`.
        ///
        /// # Errors
        /// If lengths do not fit, or a bias is given to a gradient by filters; what a library or the driver answers.
        pub fn run(
            &self,
            gpu: &Gpu,
            (a, b): (Span<'_>, Span<'_>),
            bias: Option<Span<'_>>,
            add: Option<Span<'_>>,
            out: Span<'_>,
            workspace: Span<'_>,
        ) -> Result<(), GpuError> {
            if bias.is_some() && self.gives != Gives::Output {
                return Err(GpuError::shape("conv2d", "a gradient has no bias"));
            }
            let more = bias.is_some() || add.is_some();
            let in_place = add.is_some_and(|add| add.address() == out.address());
            if bias.is_some() || (more && !in_place) {
                self.begin.run(gpu, &[add, bias, Some(out)])?;
            }
            match &self.way {
                Way::Product(product) => {
                    let (a, b) = if self.gives == Gives::Filters { (b, a) } else { (a, b) };
                    gpu.blas()?.product(gpu, *product, (a, b), more, out)
                }
                Way::Cudnn(conv) => conv.run(gpu, (a, b), more, out, workspace),
                Way::Direct(launch) => launch[usize::from(more)].run(gpu, &[a, b, out].map(Some)),
            }
        }
    }

    impl core::fmt::Debug for Conv {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            let way = match &self.way {
                Way::Product(product) => format!("cuBLAS, {product:?}"),
                Way::Cudnn(conv) => format!("cuDNN, {}", conv.algorithm()),
                Way::Direct(_) => "direct".to_owned(),
            };
            write!(f, "Conv({:?}, {way})", self.gives)
        }
    }

    /// The matrix product that a 1×1 convolution is.
    fn product(gives: Gives, shape: ConvShape) -> Option<Product> {
        let ConvShape { n, h, w, c, k, .. } = shape;
        if (shape.r, shape.s, shape.stride, shape.pad) != (1, 1, 1, 0) {
            return None;
        }
        let pixels = n * h * w;
        let of = |rows, inner, cols, a_transposed, b_transposed| {
            Some(Product { rows, inner, cols, a_transposed, b_transposed })
        };
        match gives {
            // y[p, k] = Σ_c x[p, c]·w[k, c]
            Gives::Output => of(pixels, c, k, false, true),
            // dx[p, c] = Σ_k dy[p, k]·w[k, c]
            Gives::Input => of(pixels, k, c, false, false),
            // dw[k, c] = Σ_p dy[p, k]·x[p, c]
            Gives::Filters => of(k, pixels, c, true, false),
        }
    }

    /// What is added, where the result will be: Spans: what to add or none, the bias or none, the result.
    fn begin(gpu: &Gpu, gives: Gives, shape: ConvShape) -> Result<Launch, GpuError> {
        let (n, channels) = match gives {
            Gives::Output => (shape.y_len(), shape.k),
            Gives::Input => (shape.x_len(), shape.c),
            Gives::Filters => (shape.w_len(), shape.c),
        };
        let k = int("conv2d", channels)?;
        let (add, bias) = (maybe::<f32>("add", n), maybe::<f32>("bias", channels));
        let params = vec![add, bias, i64(n / channels.max(1)), i32(k), of::<f32>("out", n)];
        // SAFETY: the kernel reads n values and as many biases as there are channels, where these are given, and
        // writes n values.
        unsafe { Launch::new(gpu, "conv2d", "conv2d_begin_f32", threads(n), params) }
    }

    fn direct(gpu: &Gpu, gives: Gives, shape: ConvShape) -> Result<Way, GpuError> {
        let (x, w, y) =
            (of::<f32>("x", shape.x_len()), of::<f32>("w", shape.w_len()), of::<f32>("y", shape.y_len()));
        let (name, a, b, out, n) = match gives {
            Gives::Output => ("conv2d_forward_f32", x, w, y, shape.y_len()),
            Gives::Input => ("conv2d_input_grad_f32", y, w, x, shape.x_len()),
            Gives::Filters => ("conv2d_weight_grad_f32", x, y, w, shape.w_len()),
        };
        let ConvShape { n: images, h, w, c, k, r, s, stride, pad } = shape;
        let sizes = [images, h, w, c, k, r, s, stride, pad, shape.oh(), shape.ow()];
        let sizes = sizes.iter().map(|&n| int("conv2d", n).map(i32)).collect::<Result<Vec<_>, _>>()?;
        let launch = |more: i32| {
            let mut params = vec![a.clone(), b.clone(), i32(more)];
            params.extend(sizes.iter().cloned());
            params.push(out.clone());
            // SAFETY: the kernel reads two tensors of the shape and writes (and with `more` reads) the third; taps
            // outside an image are passed over.
            unsafe { Launch::new(gpu, "conv2d", name, threads(n), params) }
        };
        Ok(Way::Direct([launch(0)?, launch(1)?]))
    }
}
