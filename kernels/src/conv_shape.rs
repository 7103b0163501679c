//! The shape of a 2-D convolution, which the CPU's and the GPU's kernels share.

/// Shape of a convolution: NHWC input, KRSC filters, zero padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Images.
    pub n: usize,
    /// Input height.
    pub h: usize,
    /// Input width.
    pub w: usize,
    /// Input channels.
    pub c: usize,
    /// Output channels.
    pub k: usize,
    /// Filter height.
    pub r: usize,
    /// Filter width.
    pub s: usize,
    /// Step between output pixels, both ways.
    pub stride: usize,
    /// Zero rows and columns on every side.
    pub pad: usize,
}

impl ConvShape {
    /// Output height.
    pub fn oh(&self) -> usize {
        (self.h + 2 * self.pad - self.r) / self.stride + 1
    }
    /// Output width.
    pub fn ow(&self) -> usize {
        (self.w + 2 * self.pad - self.s) / self.stride + 1
    }
    /// Elements of the input.
    pub fn x_len(&self) -> usize {
        self.n * self.h * self.w * self.c
    }
    /// Elements of the output.
    pub fn y_len(&self) -> usize {
        self.n * self.oh() * self.ow() * self.k
    }
    /// Elements of the filters.
    pub fn w_len(&self) -> usize {
        self.k * self.r * self.s * self.c
    }
    /// Floating-point operations of a direct convolution.
    pub fn flops(&self) -> u64 {
        2 * (self.n * self.oh() * self.ow()) as u64 * self.w_len() as u64
    }
    /// The linear layer `y[n, k] = Σ x[n, c] w[k, c]` as a 1×1 convolution.
    pub fn linear(n: usize, c: usize, k: usize) -> Self {
        Self { n, h: 1, w: 1, c, k, r: 1, s: 1, stride: 1, pad: 0 }
    }
}
