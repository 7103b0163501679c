//! Vectors whose factors are pairs of bf16: a multiply-add adds two products to each lane.
//!
//! Invariant: a product of two bf16 is exact in float32, so backends differ only in how they round the two sums, and in
//! denormals, which AVX512_BF16 flushes to zero on input and output.

use super::super::microkernel::{Quad, Vector};

/// A vector whose bits can be interpreted as pairs of bf16. All methods require its instruction set.
pub(super) trait Halves: Vector {
    /// The lower halves of the lanes as float32.
    unsafe fn low(self) -> Self;
    /// The upper halves.
    unsafe fn high(self) -> Self;
}

impl Halves for Quad {
    #[inline(always)]
    unsafe fn low(self) -> Self {
        Self(self.0.map(|x| f32::from_bits(x.to_bits() << 16)))
    }
    #[inline(always)]
    unsafe fn high(self) -> Self {
        Self(self.0.map(|x| f32::from_bits(x.to_bits() & 0xffff_0000)))
    }
}

/// Float32 sums to which the two products of a pair are added one after the other, for machines without bf16
/// instructions.
#[derive(Clone, Copy)]
pub(super) struct Split<V>(V);

/// All methods but `fma`, forwarded to the inner vector.
macro_rules! as_within {
    ($lanes:expr, $v:ty) => {
        const LANES: usize = $lanes;
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: passed on.
            Self(unsafe { <$v>::zero() })
        }
        #[inline(always)]
        unsafe fn splat(x: *const f32) -> Self {
            // SAFETY: passed on.
            Self(unsafe { <$v>::splat(x) })
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: passed on.
            Self(unsafe { <$v>::load(p) })
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            // SAFETY: passed on.
            unsafe { self.0.store(p) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: passed on.
            Self(unsafe { self.0.add(other.0) })
        }
    };
}

impl<V: Halves> Vector for Split<V> {
    as_within!(V::LANES, V);
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: passed on.
        unsafe { Self(self.0.fma(a.0.low(), b.0.low()).fma(a.0.high(), b.0.high())) }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::super::super::microkernel::{self, Forward, Vector, WeightGrad};
    use super::{Halves, Split};
    use core::arch::x86_64::*;

    /// Float32 sums to which both products of a pair are added by one instruction.
    #[derive(Clone, Copy)]
    struct Dot(__m512);

    impl Vector for Dot {
        as_within!(16, __m512);
        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            // SAFETY: the caller has the instruction set; all types are 512 bits, all of whose bit patterns are valid.
            unsafe {
                let pairs = |x: __m512| core::mem::transmute::<__m512, __m512bh>(x);
                Self(_mm512_dpbf16_ps(self.0, pairs(a.0), pairs(b.0)))
            }
        }
    }

    macro_rules! halves {
        ($v:ty, $bits:ident, $floats:ident, $shift:ident, $and:ident, $set:ident) => {
            impl Halves for $v {
                #[inline(always)]
                unsafe fn low(self) -> Self {
                    // SAFETY: the caller has the instruction set.
                    unsafe { $floats($shift::<16>($bits(self))) }
                }
                #[inline(always)]
                unsafe fn high(self) -> Self {
                    // SAFETY: the caller has the instruction set.
                    unsafe { $floats($and($bits(self), $set(0xffff_0000u32 as i32))) }
                }
            }
        };
    }
    halves!(
        __m512,
        _mm512_castps_si512,
        _mm512_castsi512_ps,
        _mm512_slli_epi32,
        _mm512_and_si512,
        _mm512_set1_epi32
    );
    halves!(
        __m256,
        _mm256_castps_si256,
        _mm256_castsi256_ps,
        _mm256_slli_epi32,
        _mm256_and_si256,
        _mm256_set1_epi32
    );

    /// # Safety
    /// As [`microkernel::forward`], with pairs in place of elements.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    pub(in super::super) unsafe fn forward_bf16<const MR: usize, const KV: usize>(f: &mut Forward<'_>) {
        // SAFETY: passed on.
        unsafe { microkernel::forward::<Dot, MR, KV>(f) }
    }

    /// # Safety
    /// As [`microkernel::forward`], with pairs in place of elements.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(in super::super) unsafe fn forward512<const KV: usize>(f: &mut Forward<'_>) {
        // SAFETY: passed on.
        unsafe { microkernel::forward::<Split<__m512>, 8, KV>(f) }
    }

    /// # Safety
    /// As [`microkernel::forward`], with pairs in place of elements.
    #[target_feature(enable = "avx2,fma")]
    pub(in super::super) unsafe fn forward256<const KV: usize>(f: &mut Forward<'_>) {
        // SAFETY: passed on.
        unsafe { microkernel::forward::<Split<__m256>, 4, KV>(f) }
    }

    /// # Safety
    /// As [`microkernel::weight_grad`], with pairs in place of elements.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    pub(in super::super) unsafe fn weight_grad_bf16(g: &mut WeightGrad<'_>) {
        // SAFETY: passed on.
        unsafe { microkernel::weight_grad::<Dot, 8, 3>(g) }
    }

    /// # Safety
    /// As [`microkernel::weight_grad`], with pairs in place of elements.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(in super::super) unsafe fn weight_grad512(g: &mut WeightGrad<'_>) {
        // SAFETY: passed on.
        unsafe { microkernel::weight_grad::<Split<__m512>, 8, 3>(g) }
    }

    /// # Safety
    /// As [`microkernel::weight_grad`], with pairs in place of elements.
    #[target_feature(enable = "avx2,fma")]
    pub(in super::super) unsafe fn weight_grad256(g: &mut WeightGrad<'_>) {
        // SAFETY: passed on.
        unsafe { microkernel::weight_grad::<Split<__m256>, 4, 3>(g) }
    }
}
