//! Packing float32 into pairs of bf16: 32 bits with the first factor in the lower half.
//!
//! Invariant: each value is rounded once, to nearest, ties to even; NaN stays NaN. With AVX512_BF16 denormals become
//! zero, as they do in its products.

use crate::cpu::Simd;

/// The bits of a bf16.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    (if x.is_nan() { bits | 0x0040_0000 } else { nearest }) >> 16
}

/// One pair, from two values, or from the last one of an odd number of values.
#[inline(always)]
pub(super) fn narrow_one(pair: &[f32]) -> u32 {
    match *pair {
        [a] => round(a),
        [a, b] => round(a) | (round(b) << 16),
        _ => 0,
    }
}

/// Packs pixels of `c` channels into pixels of `⌈c/2⌉` pairs.
pub(super) fn narrow(simd: Simd, x: &[f32], c: usize, out: &mut [u32]) {
    #[cfg(target_arch = "x86_64")]
    if simd.bf16() && c.is_multiple_of(2) {
        // SAFETY: a `Simd` says `bf16` only where detection found these instructions.
        return unsafe { x86::narrow(x, out) };
    }
    let _ = simd;
    for (x, out) in x.chunks_exact(c).zip(out.chunks_exact_mut(c.div_ceil(2))) {
        for (x, out) in x.chunks(2).zip(out) {
            *out = narrow_one(x);
        }
    }
}

/// Packs the pairs (a₀, b₀), (a₁, b₁), …; zeros stand for b if it is `None`.
pub(super) fn interleave(simd: Simd, a: &[f32], b: Option<&[f32]>, out: &mut [u32]) {
    let Some(b) = b else {
        return out.iter_mut().zip(a).for_each(|(out, &a)| *out = round(a));
    };
    #[cfg(target_arch = "x86_64")]
    if simd.bf16() {
        // SAFETY: a `Simd` says `bf16` only where detection found these instructions.
        return unsafe { x86::interleave(a, b, out) };
    }
    let _ = simd;
    out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (&a, &b))| *out = round(a) | (round(b) << 16));
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    /// Lanes below `n`.
    fn first(n: usize) -> __mmask16 {
        if n >= 16 { 0xffff } else { (1 << n) - 1 }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) fn narrow(x: &[f32], out: &mut [u32]) {
        for (x, out) in x.chunks(32).zip(out.chunks_mut(16)) {
            let (lo, hi) = (x.as_ptr(), x.as_ptr().wrapping_add(16));
            // SAFETY: masks keep loads within x's elements and the store within out's.
            unsafe {
                let lo = _mm512_maskz_loadu_ps(first(x.len()), lo);
                let hi = _mm512_maskz_loadu_ps(first(x.len().saturating_sub(16)), hi);
                let both = bits(_mm512_cvtne2ps_pbh(hi, lo));
                _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), first(out.len()), both);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) fn interleave(a: &[f32], b: &[f32], out: &mut [u32]) {
        let halves: [u16; 32] = core::array::from_fn(|i| (i / 2 + i % 2 * 16) as u16);
        // SAFETY: the table is as long as the vector.
        let halves = unsafe { _mm512_loadu_si512(halves.as_ptr().cast()) };
        for ((a, b), out) in a.chunks(16).zip(b.chunks(16)).zip(out.chunks_mut(16)) {
            // SAFETY: masks keep loads within the elements of a and b and the store within out's.
            unsafe {
                let a = _mm512_maskz_loadu_ps(first(a.len()), a.as_ptr());
                let b = _mm512_maskz_loadu_ps(first(b.len()), b.as_ptr());
                let both = _mm512_permutexvar_epi16(halves, bits(_mm512_cvtne2ps_pbh(b, a)));
                _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), first(out.len()), both);
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    fn bits(x: __m512bh) -> __m512i {
        // SAFETY: both are 512 bits, all of whose bit patterns are valid.
        unsafe { core::mem::transmute(x) }
    }
}
