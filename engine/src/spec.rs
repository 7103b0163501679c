//! Shapes and element types of tensors.

use core::fmt;

/// Element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// IEEE double precision: gradient checks and reference values, on the CPU only.
    F64,
    /// The upper 16 bits of a float32: activations and copies of filters on a GPU.
    BF16,
    /// Labels, indices, counters, seeds.
    I32,
    /// Bytes of images.
    U8,
}

impl DType {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::F64 => 8,
            Self::BF16 => 2,
            Self::U8 => 1,
        }
    }

    /// Whether it is a floating-point type, through which gradients flow.
    pub fn is_real(self) -> bool {
        matches!(self, Self::F32 | Self::F64 | Self::BF16)
    }

    /// The accumulation type: that of sums, statistics and coefficients of values of this type. Float32 for bf16, else the
    /// type itself.
    pub fn wide(self) -> Self {
        if self == Self::BF16 { Self::F32 } else { self }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::BF16 => "bf16",
            Self::I32 => "i32",
            Self::U8 => "u8",
        })
    }
}

/// The largest number of axes.
pub const MAX_RANK: usize = 4;

/// Shape and element type of a tensor. Tensors are row-major; images are N×H×W×C, filters K×R×S×C; a scalar has no axes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spec {
    dims: [usize; MAX_RANK],
    rank: usize,
    /// Element type.
    pub dtype: DType,
}

impl Spec {
    /// A tensor of this shape and type. Axes beyond [`MAX_RANK`] are folded into the last.
    pub fn new(shape: &[usize], dtype: DType) -> Self {
        let mut dims = [1; MAX_RANK];
        for (i, &d) in shape.iter().enumerate() {
            dims[i.min(MAX_RANK - 1)] *= d;
        }
        Self { dims, rank: shape.len().min(MAX_RANK), dtype }
    }

    /// A float32 tensor of this shape.
    pub fn f32(shape: &[usize]) -> Self {
        Self::new(shape, DType::F32)
    }

    /// An int32 tensor of this shape.
    pub fn i32(shape: &[usize]) -> Self {
        Self::new(shape, DType::I32)
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of bytes.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.size()
    }

    /// Length of the last axis; 1 for a scalar.
    pub fn last(&self) -> usize {
        self.shape().last().copied().unwrap_or(1)
    }

    /// Length of the first axis; 1 for a scalar.
    pub fn first(&self) -> usize {
        self.shape().first().copied().unwrap_or(1)
    }

    /// Product of all axes but the last.
    pub fn rows(&self) -> usize {
        self.shape().split_last().map_or(1, |(_, s)| s.iter().product())
    }

    /// Product of all axes but the first.
    pub fn row_len(&self) -> usize {
        self.shape().split_first().map_or(1, |(_, s)| s.iter().product())
    }

    /// A tensor of this element type with the shape `shape`.
    pub fn with_shape(&self, shape: &[usize]) -> Self {
        Self::new(shape, self.dtype)
    }

    /// A tensor of this shape with the element type `dtype`.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        Self { dtype, ..*self }
    }

    /// A tensor of this shape in the accumulation type ([`DType::wide`]).
    pub fn wide(&self) -> Self {
        self.with_dtype(self.dtype.wide())
    }

    /// A tensor of this shape and type but for the length `n` of the first axis.
    pub fn with_first(&self, n: usize) -> Self {
        let mut s = *self;
        s.dims[0] = n;
        s
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, d) in self.shape().iter().enumerate() {
            write!(f, "{}{d}", if i > 0 { "×" } else { "" })?;
        }
        f.write_str("]")
    }
}
