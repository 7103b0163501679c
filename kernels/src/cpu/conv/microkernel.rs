//! The register-blocked inner loops of all convolutions and linear layers.
//!
//! Two loops: `forward` computes outputs as sums over runs of contiguous input (the taps of one filter row are
//! adjacent in NHWC), `weight_grad` computes filter rows as sums over pixels. Both are generic over the vector.
//!
//! Invariant: each output is one chain of fused multiply-adds in the order of the runs, independent of its tile, so an
//! image's results do not depend on the batch around it.

use super::Add;
use super::prefetch::Prefetch;
pub(super) use crate::cpu::vector::{Quad, Vector};

/// What is added to the sums of [`forward`].
#[derive(Clone, Copy)]
pub(super) enum Residual {
    None,
    /// Same layout as the output.
    From(*const f32),
    /// The old values of the output.
    InPlace,
}

impl Residual {
    /// For a block of outputs that starts at element `at` of the result.
    pub(super) fn new(add: &Add<'_, f32>, at: usize) -> Self {
        match add {
            Add::None => Self::None,
            Add::From(r) => Self::From(r[at..].as_ptr()),
            Add::InPlace => Self::InPlace,
        }
    }
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
    /// Prefetched step by step, once per tile.
    pub prefetch: &'a mut Prefetch,
}

/// # Safety
/// The instruction set of `V` is present. Reads of `src` at `src_off[p] + runs[r] + 0..run_len`, of `weights` and
/// `bias` as described, and writes (reads, for a residual) at `dst_off[p] + 0..k` are in bounds for every pixel.
#[inline(always)]
pub(super) unsafe fn forward<V: Vector, const MR: usize, const KV: usize>(f: &mut Forward<'_>) {
    let kb = KV * V::LANES;
    let rows = f.runs.len() * f.run_len;
    let mut k0 = 0;
    while k0 < f.k {
        let w = f.weights.wrapping_add((k0 / kb) * rows * kb);
        let mut p = 0;
        while p < f.src_off.len() {
            let valid = (f.src_off.len() - p).min(MR);
            f.prefetch.fetch();
            // SAFETY: as the caller guarantees; a short last tile repeats its last pixel's reads.
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
        // SAFETY: bounds as promised by `forward`'s caller; the last channel block is stored element by element.
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
    /// Output gradients, `k` per pixel, in the order of `src_off`.
    pub dy: *const f32,
    pub runs: &'a [usize],
    pub run_len: usize,
    pub k: usize,
    /// `k × runs × run_len`, added to.
    pub dw: *mut f32,
    /// Prefetched step by step, once per filter tile.
    pub prefetch: &'a mut Prefetch,
}

/// # Safety
/// The instruction set of `V` is present. `src` is readable at `src_off[p] + runs[r] + 0..run_len` rounded up to
/// whole vectors; `dy` and `dw` have the described sizes.
#[inline(always)]
pub(super) unsafe fn weight_grad<V: Vector, const MR: usize, const NV: usize>(g: &mut WeightGrad<'_>) {
    let (nb, runs) = (NV * V::LANES, g.runs);
    for (r, &run) in runs.iter().enumerate() {
        let mut n0 = 0;
        while n0 < g.run_len {
            let mut k0 = 0;
            while k0 < g.k {
                let ks = (g.k - k0).min(MR);
                g.prefetch.fetch();
                // SAFETY: as the caller guarantees.
                unsafe {
                    let nv = (g.run_len - n0).div_ceil(V::LANES).min(NV);
                    // Separate loops for the common widths, so that no lane is wasted.
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
