//! Vectors of float32 at each level of instructions.

/// A vector of float32. All methods require the instruction set of the implementing type.
pub(crate) trait Vector: Copy {
    const LANES: usize;
    unsafe fn zero() -> Self;
    unsafe fn splat(x: *const f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    unsafe fn store(self, p: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    /// self + a·b
    unsafe fn fma(self, a: Self, b: Self) -> Self;
}

/// The further operations that transforms and sums need.
pub(crate) trait Arithmetic: Vector {
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// Leaky ReLU: the lanes below zero multiplied by `leak`.
    #[inline(always)]
    unsafe fn leaky(self, leak: Self) -> Self {
        // SAFETY: passed on.
        unsafe { self.through(self, leak) }
    }
    /// The lanes multiplied by `leak` where `z` is not above zero: leaky ReLU if z = self, else its gradient at z.
    unsafe fn through(self, z: Self, leak: Self) -> Self;
    /// `dst[j, i] = src[i, j]`, `LANES` each way, with the given row strides.
    unsafe fn transpose(src: *const f32, src_row: usize, dst: *mut f32, dst_row: usize);
}

/// [`Arithmetic::transpose`] element by element.
#[inline(always)]
unsafe fn transpose<const N: usize>(src: *const f32, src_row: usize, dst: *mut f32, dst_row: usize) {
    for i in 0..N {
        for j in 0..N {
            // SAFETY: the caller passes readable and writable elements.
            unsafe { *dst.add(j * dst_row + i) = *src.add(i * src_row + j) };
        }
    }
}

/// Four lanes without instruction-set requirements.
#[derive(Clone, Copy)]
pub(crate) struct Quad(pub(crate) [f32; 4]);

impl Vector for Quad {
    const LANES: usize = 4;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 4])
    }
    #[inline(always)]
    unsafe fn splat(x: *const f32) -> Self {
        // SAFETY: the caller passes a readable element.
        Self([unsafe { *x }; 4])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller passes four readable elements; no alignment is assumed.
        Self(unsafe { p.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller passes four writable elements; no alignment is assumed.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, o: Self) -> Self {
        Self(core::array::from_fn(|i| self.0[i] + o.0[i]))
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Self(core::array::from_fn(|i| self.0[i] + a.0[i] * b.0[i]))
    }
}

impl Arithmetic for Quad {
    #[inline(always)]
    unsafe fn sub(self, o: Self) -> Self {
        Self(core::array::from_fn(|i| self.0[i] - o.0[i]))
    }
    #[inline(always)]
    unsafe fn mul(self, o: Self) -> Self {
        Self(core::array::from_fn(|i| self.0[i] * o.0[i]))
    }
    #[inline(always)]
    unsafe fn through(self, z: Self, leak: Self) -> Self {
        Self(core::array::from_fn(|i| if z.0[i] > 0.0 { self.0[i] } else { self.0[i] * leak.0[i] }))
    }
    #[inline(always)]
    unsafe fn transpose(src: *const f32, src_row: usize, dst: *mut f32, dst_row: usize) {
        // SAFETY: passed on.
        unsafe { transpose::<4>(src, src_row, dst, dst_row) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Arithmetic, Vector, transpose};
    use core::arch::x86_64::*;

    macro_rules! vector {
        ($t:ty, $lanes:expr, $zero:ident, $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $mul:ident,
            $fma:ident, $transpose:ident, |$x:ident, $z:ident, $leak:ident| $through:expr) => {
            impl Vector for $t {
                const LANES: usize = $lanes;
                #[inline(always)]
                unsafe fn zero() -> Self {
                    // SAFETY: the caller has the instruction set.
                    unsafe { $zero() }
                }
                #[inline(always)]
                unsafe fn splat(x: *const f32) -> Self {
                    // SAFETY: the caller has the instruction set and passes a readable element.
                    unsafe { $splat(*x) }
                }
                #[inline(always)]
                unsafe fn load(p: *const f32) -> Self {
                    // SAFETY: the caller has the instruction set and passes readable lanes.
                    unsafe { $load(p) }
                }
                #[inline(always)]
                unsafe fn store(self, p: *mut f32) {
                    // SAFETY: the caller has the instruction set and passes writable lanes.
                    unsafe { $store(p, self) }
                }
                #[inline(always)]
                unsafe fn add(self, o: Self) -> Self {
                    // SAFETY: the caller has the instruction set.
                    unsafe { $add(self, o) }
                }
                #[inline(always)]
                unsafe fn fma(self, a: Self, b: Self) -> Self {
                    // SAFETY: the caller has the instruction set.
                    unsafe { $fma(a, b, self) }
                }
            }
            impl Arithmetic for $t {
                #[inline(always)]
                unsafe fn sub(self, other: Self) -> Self {
                    // SAFETY: the caller has the instruction set.
                    unsafe { $sub(self, other) }
                }
                #[inline(always)]
                unsafe fn mul(self, other: Self) -> Self {
                    // SAFETY: the caller has the instruction set.
                    unsafe { $mul(self, other) }
                }
                #[inline(always)]
                unsafe fn through(self, $z: Self, $leak: Self) -> Self {
                    let $x = self;
                    // SAFETY: the caller has the instruction set.
                    unsafe { $through }
                }
                #[inline(always)]
                unsafe fn transpose(src: *const f32, src_row: usize, dst: *mut f32, dst_row: usize) {
                    // SAFETY: passed on.
                    unsafe { $transpose(src, src_row, dst, dst_row) }
                }
            }
        };
    }
    vector!(
        __m512,
        16,
        _mm512_setzero_ps,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps,
        transpose16,
        |x, z, leak| _mm512_mask_mul_ps(
            x,
            _mm512_cmp_ps_mask::<_CMP_NGT_UQ>(z, _mm512_setzero_ps()),
            x,
            leak
        )
    );
    vector!(
        __m256,
        8,
        _mm256_setzero_ps,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps,
        transpose8,
        |x, z, leak| _mm256_blendv_ps(
            _mm256_mul_ps(x, leak),
            x,
            _mm256_cmp_ps::<_CMP_GT_OQ>(z, _mm256_setzero_ps())
        )
    );

    /// # Safety
    /// As [`Arithmetic::transpose`].
    #[target_feature(enable = "avx2,fma")]
    unsafe fn transpose8(src: *const f32, src_row: usize, dst: *mut f32, dst_row: usize) {
        // SAFETY: passed on.
        unsafe { transpose::<8>(src, src_row, dst, dst_row) }
    }

    /// # Safety
    /// As [`Arithmetic::transpose`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    unsafe fn transpose16(src: *const f32, src_row: usize, dst: *mut f32, dst_row: usize) {
        // SAFETY: as the caller guarantees.
        unsafe {
            let mut r = [_mm512_setzero_ps(); 16];
            for (i, r) in r.iter_mut().enumerate() {
                *r = _mm512_loadu_ps(src.add(i * src_row));
            }
            let mut t = r;
            for i in (0..16).step_by(2) {
                t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
                t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
            }
            // r[4·g + j]: in quarter q column 4·q + j of rows 4·g to 4·g + 3.
            for g in (0..16).step_by(4) {
                for j in 0..2 {
                    let (a, b) = (_mm512_castps_pd(t[g + j]), _mm512_castps_pd(t[g + 2 + j]));
                    r[g + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                    r[g + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                }
            }
            for j in 0..4 {
                let even = _mm512_shuffle_f32x4::<0x88>(r[j], r[4 + j]);
                let odd = _mm512_shuffle_f32x4::<0xdd>(r[j], r[4 + j]);
                let even2 = _mm512_shuffle_f32x4::<0x88>(r[8 + j], r[12 + j]);
                let odd2 = _mm512_shuffle_f32x4::<0xdd>(r[8 + j], r[12 + j]);
                let columns = [
                    _mm512_shuffle_f32x4::<0x88>(even, even2),
                    _mm512_shuffle_f32x4::<0x88>(odd, odd2),
                    _mm512_shuffle_f32x4::<0xdd>(even, even2),
                    _mm512_shuffle_f32x4::<0xdd>(odd, odd2),
                ];
                for (q, column) in columns.into_iter().enumerate() {
                    _mm512_storeu_ps(dst.add((4 * q + j) * dst_row), column);
                }
            }
        }
    }
}
