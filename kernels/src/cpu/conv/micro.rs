//! The register-blocked inner loops of all convolutions and linear layers.
//!
//! Two loops: `forward` forms outputs as sums over runs of contiguous input (the taps of one filter row lie
//! side by side in NHWC), `weight_grad` forms filter rows as sums over pixels. Both are generic over the vector.
//!
//! Invariant: each output is one chain of fused multiply-adds in the order of the runs, whatever the tile it
//! falls in; so an image's results do not depend on the batch around it.

/// A vector of float32. All methods require the instruction set of the implementing type.
pub(super) trait Vector: Copy {
    const LANES: usize;
    unsafe fn zero() -> Self;
    unsafe fn splat(x: *const f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    unsafe fn store(self, p: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// self + a·b
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// Times `leak` where below zero.
    unsafe fn leaky(self, leak: Self) -> Self;
    /// `dst[j, i] = src[i, j]`, `LANES` each way; rows lie so far apart.
    #[inline(always)]
    unsafe fn transpose(src: *const f32, src_row: usize, dst: *mut f32, dst_row: usize) {
        for i in 0..Self::LANES {
            for j in 0..Self::LANES {
                // SAFETY: the caller passes readable and writable elements.
                unsafe { *dst.add(j * dst_row + i) = *src.add(i * src_row + j) };
            }
        }
    }
}

/// Four lanes without instruction-set requirements.
#[derive(Clone, Copy)]
pub(super) struct Quad([f32; 4]);

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
    unsafe fn sub(self, o: Self) -> Self {
        Self(core::array::from_fn(|i| self.0[i] - o.0[i]))
    }
    #[inline(always)]
    unsafe fn mul(self, o: Self) -> Self {
        Self(core::array::from_fn(|i| self.0[i] * o.0[i]))
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Self(core::array::from_fn(|i| self.0[i] + a.0[i] * b.0[i]))
    }
    #[inline(always)]
    unsafe fn leaky(self, leak: Self) -> Self {
        Self(core::array::from_fn(|i| if self.0[i] < 0.0 { self.0[i] * leak.0[i] } else { self.0[i] }))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use core::arch::x86_64::*;

    macro_rules! vector {
        ($t:ty, $lanes:expr, $zero:ident, $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $mul:ident, $fma:ident, $($own:item)*) => {
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
                unsafe fn fma(self, a: Self, b: Self) -> Self {
                    // SAFETY: the caller has the instruction set.
                    unsafe { $fma(a, b, self) }
                }
                $($own)*
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
        #[inline(always)]
        unsafe fn leaky(self, leak: Self) -> Self {
            // SAFETY: the caller has the instruction set.
            unsafe {
                let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self, _mm512_setzero_ps());
                _mm512_mask_mul_ps(self, below, self, leak)
            }
        },
        #[inline(always)]
        unsafe fn transpose(src: *const f32, src_row: usize, dst: *mut f32, dst_row: usize) {
            // SAFETY: passed on.
            unsafe { transpose16(src, src_row, dst, dst_row) }
        }
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
        #[inline(always)]
        unsafe fn leaky(self, leak: Self) -> Self {
            // SAFETY: the caller has the instruction set.
            unsafe {
                let below = _mm256_cmp_ps::<_CMP_LT_OQ>(self, _mm256_setzero_ps());
                _mm256_blendv_ps(self, _mm256_mul_ps(self, leak), below)
            }
        }
    );

    /// # Safety
    /// As [`Vector::transpose`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    unsafe fn transpose16(src: *const f32, src_row: usize, dst: *mut f32, dst_row: usize) {
        // SAFETY: as promised by the caller.
        unsafe {
            let mut r = [_mm512_setzero_ps(); 16];
            for i in 0..16 {
                r[i] = _mm512_loadu_ps(src.add(i * src_row));
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
                for q in 0..4 {
                    _mm512_storeu_ps(dst.add((4 * q + j) * dst_row), columns[q]);
                }
            }
        }
    }
}

/// What is added to the sums of [`forward`].
#[derive(Clone, Copy)]
pub(super) enum Residual {
    None,
    /// Same layout as the output.
    From(*const f32),
    /// The output's old content.
    InPlace,
}

/// One block of outputs: pixels × `k` channels.
pub(super) struct Forward<'a> {
    pub src: *const f32,
    /// Source offset of each pixel's first tap, in elements.
    pub src_off: &'a [u32],
    /// Output offset of each pixel.
    pub dst_off: &'a [u32],
    /// Offset of each run from a pixel's first tap.
    pub runs: &'a [usize],
    pub run_len: usize,
    /// Packed weights: blocks of KV·LANES channels, each `runs × run_len` rows of that many weights.
    pub weights: *const f32,
    /// `k` values rounded up to whole blocks.
    pub bias: *const f32,
    pub k: usize,
    pub dst: *mut f32,
    pub residual: Residual,
}

/// # Safety
/// The instruction set of `V` is present. Reads of `src` at `src_off[p] + runs[r] + 0..run_len`, of `weights` and
/// `bias` as described, and writes (reads, for a residual) at `dst_off[p] + 0..k` are in bounds for every pixel.
#[inline(always)]
pub(super) unsafe fn forward<V: Vector, const MR: usize, const KV: usize>(f: &Forward<'_>) {
    let kb = KV * V::LANES;
    let rows = f.runs.len() * f.run_len;
    let mut k0 = 0;
    while k0 < f.k {
        let w = f.weights.wrapping_add((k0 / kb) * rows * kb);
        let mut p = 0;
        while p < f.src_off.len() {
            let valid = (f.src_off.len() - p).min(MR);
            // SAFETY: as promised by the caller; a short last tile repeats its last pixel's reads.
            unsafe {
                let acc = sums::<V, MR, KV>(f, p, valid, w, f.bias.add(k0));
                finish::<V, MR, KV>(f, p, valid, k0, acc);
            }
            p += MR;
        }
        k0 += kb;
    }
}

/// The accumulators of one tile.
#[inline(always)]
unsafe fn sums<V: Vector, const MR: usize, const KV: usize>(
    f: &Forward<'_>,
    p: usize,
    valid: usize,
    mut w: *const f32,
    bias: *const f32,
) -> [[V; KV]; MR] {
    // SAFETY: bounds as promised by `forward`'s caller.
    unsafe {
        let first: [*const f32; MR] =
            core::array::from_fn(|i| f.src.add(*f.src_off.get_unchecked(p + i.min(valid - 1)) as usize));
        let mut acc = [[V::zero(); KV]; MR];
        for a in &mut acc {
            for (v, a) in a.iter_mut().enumerate() {
                *a = V::load(bias.add(v * V::LANES));
            }
        }
        for &run in f.runs {
            let x: [*const f32; MR] = core::array::from_fn(|i| first[i].add(run));
            for c in 0..f.run_len {
                let b: [V; KV] = core::array::from_fn(|v| V::load(w.add(v * V::LANES)));
                for i in 0..MR {
                    let a = V::splat(x[i].add(c));
                    for v in 0..KV {
                        acc[i][v] = acc[i][v].fma(a, b[v]);
                    }
                }
                w = w.add(KV * V::LANES);
            }
        }
        acc
    }
}

/// Adds the residual and stores one tile.
#[inline(always)]
unsafe fn finish<V: Vector, const MR: usize, const KV: usize>(
    f: &Forward<'_>,
    p: usize,
    valid: usize,
    k0: usize,
    acc: [[V; KV]; MR],
) {
    let whole = k0 + KV * V::LANES <= f.k;
    for (i, acc) in acc.iter().enumerate() {
        if i >= valid {
            break;
        }
        // SAFETY: bounds as promised by `forward`'s caller; the last channel block goes by single elements.
        unsafe {
            let at = *f.dst_off.get_unchecked(p + i) as usize + k0;
            let residual = match f.residual {
                Residual::None => None,
                Residual::From(r) => Some(r.add(at)),
                Residual::InPlace => Some(f.dst.add(at).cast_const()),
            };
            if whole {
                for (v, &a) in acc.iter().enumerate() {
                    let a = residual.map_or(a, |r| a.add(V::load(r.add(v * V::LANES))));
                    a.store(f.dst.add(at + v * V::LANES));
                }
            } else {
                let mut row = [0.0f32; 64];
                for (v, &a) in acc.iter().enumerate() {
                    a.store(row.as_mut_ptr().add(v * V::LANES));
                }
                for (c, &sum) in row.iter().enumerate().take(f.k - k0) {
                    *f.dst.add(at + c) = residual.map_or(sum, |r| sum + *r.add(c));
                }
            }
        }
    }
}

/// One block of pixels added into filter gradients.
pub(super) struct WeightGrad<'a> {
    pub src: *const f32,
    pub src_off: &'a [u32],
    /// Output gradients, `k` a pixel, in the order of `src_off`.
    pub dy: *const f32,
    pub runs: &'a [usize],
    pub run_len: usize,
    pub k: usize,
    /// `k × runs × run_len`, added to.
    pub dw: *mut f32,
}

/// # Safety
/// The instruction set of `V` is present. `src` is readable at `src_off[p] + runs[r] + 0..run_len` rounded up to
/// whole vectors; `dy` and `dw` have the described sizes.
#[inline(always)]
pub(super) unsafe fn weight_grad<V: Vector, const MR: usize, const NV: usize>(g: &WeightGrad<'_>) {
    let nb = NV * V::LANES;
    for (r, &run) in g.runs.iter().enumerate() {
        let mut n0 = 0;
        while n0 < g.run_len {
            let mut k0 = 0;
            while k0 < g.k {
                let ks = (g.k - k0).min(MR);
                // SAFETY: as promised by the caller.
                unsafe {
                    let nv = (g.run_len - n0).div_ceil(V::LANES).min(NV);
                    // The common widths have loops of their own, so that no lane is wasted.
                    if nv == NV {
                        filter_tile::<V, MR, NV>(g, run + n0, k0, ks, r, n0);
                    } else if nv == 2 {
                        filter_tile::<V, MR, 2>(g, run + n0, k0, ks, r, n0);
                    } else {
                        filter_tile::<V, MR, 1>(g, run + n0, k0, ks, r, n0);
                    }
                }
                k0 += MR;
            }
            n0 += nb;
        }
    }
}

/// `MR` filters × `NV` vectors of one filter row.
#[inline(always)]
unsafe fn filter_tile<V: Vector, const MR: usize, const NV: usize>(
    g: &WeightGrad<'_>,
    offset: usize,
    k0: usize,
    ks: usize,
    r: usize,
    n0: usize,
) {
    // SAFETY: bounds as promised by `weight_grad`'s caller; missing filters repeat the last one's reads.
    unsafe {
        let mut acc = [[V::zero(); NV]; MR];
        let d: [usize; MR] = core::array::from_fn(|i| k0 + i.min(ks - 1));
        let mut dy = g.dy;
        for &off in g.src_off {
            let x = g.src.add(off as usize + offset);
            let b: [V; NV] = core::array::from_fn(|v| V::load(x.add(v * V::LANES)));
            for i in 0..MR {
                let a = V::splat(dy.add(d[i]));
                for v in 0..NV {
                    acc[i][v] = acc[i][v].fma(a, b[v]);
                }
            }
            dy = dy.add(g.k);
        }
        for (i, acc) in acc.iter().enumerate().take(ks) {
            let row = g.dw.add(((k0 + i) * g.runs.len() + r) * g.run_len + n0);
            for (v, &a) in acc.iter().enumerate() {
                let left = g.run_len - n0 - (v * V::LANES).min(g.run_len - n0);
                let at = row.add(v * V::LANES);
                if left >= V::LANES {
                    V::load(at).add(a).store(at);
                } else {
                    let mut lanes = [0.0f32; 16];
                    a.store(lanes.as_mut_ptr());
                    for (c, lane) in lanes.iter().enumerate().take(left) {
                        *at.add(c) += lane;
                    }
                }
            }
        }
    }
}
