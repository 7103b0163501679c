//! Element types: bf16, and the types that a kernel's activations may have.

pub use half::bf16;

/// Element type of a kernel's activations and filters. Statistics, coefficients and sums are float32 whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Float {
    /// IEEE 754 single precision.
    #[default]
    F32,
    /// bfloat16: the upper half of a float32.
    Bf16,
}

impl Float {
    /// Bytes of an element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}
