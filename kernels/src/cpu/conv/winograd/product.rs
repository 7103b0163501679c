//! The matrix products between the transforms.

use crate::cpu::vector::Arithmetic;

/// m[t, 0..KV·LANES] = Σ_c v[t, c]·u[c, 0..KV·LANES] for `tiles` rows, added to what there is unless this is the
/// beginning; each output is one chain of fused multiply-adds, however channels are cut into groups.
///
/// # Safety
/// The instruction set of `V` is present; v is readable at `t·row + 0..depth`, u is `[depth, KV·LANES]`, and m is
/// writable as `[tiles, KV·LANES]`.
#[inline(always)]
pub(super) unsafe fn product<V: Arithmetic, const MR: usize, const KV: usize>(
    v: *const f32,
    row: usize,
    (tiles, depth): (usize, usize),
    u: *const f32,
    begin: bool,
    m: *mut f32,
) {
    let width = KV * V::LANES;
    let mut t = 0;
    while t < tiles {
        let valid = (tiles - t).min(MR);
        // SAFETY: as the caller guarantees; missing rows repeat the last one's reads.
        unsafe {
            let (first, m) = (v.add(t * row), m.add(t * width));
            if valid == MR && row == V::LANES {
                // A constant distance needs one address for all rows, where sixteen would not fit in registers.
                let rows = core::array::from_fn(|i| first.add(i * V::LANES));
                tile::<V, MR, KV>(rows, valid, depth, u, begin, m);
            } else {
                let rows = core::array::from_fn(|i| first.add(i.min(valid - 1) * row));
                tile::<V, MR, KV>(rows, valid, depth, u, begin, m);
            }
        }
        t += MR;
    }
}

/// `MR` rows of [`product`], of which `valid` are stored.
///
/// # Safety
/// As [`product`].
#[inline(always)]
unsafe fn tile<V: Arithmetic, const MR: usize, const KV: usize>(
    rows: [*const f32; MR],
    valid: usize,
    depth: usize,
    mut u: *const f32,
    begin: bool,
    m: *mut f32,
) {
    let width = KV * V::LANES;
    // SAFETY: as the caller guarantees.
    unsafe {
        let mut acc = [[V::zero(); KV]; MR];
        if !begin {
            for (i, acc) in acc.iter_mut().enumerate() {
                for (j, a) in acc.iter_mut().enumerate() {
                    *a = V::load(m.add(i.min(valid - 1) * width + j * V::LANES));
                }
            }
        }
        for c in 0..depth {
            let b: [V; KV] = core::array::from_fn(|j| V::load(u.add(j * V::LANES)));
            for (acc, row) in acc.iter_mut().zip(&rows) {
                let a = V::splat(row.add(c));
                for (acc, &b) in acc.iter_mut().zip(&b) {
                    *acc = acc.fma(a, b);
                }
            }
            u = u.add(width);
        }
        for (i, acc) in acc.iter().enumerate() {
            if i < valid {
                for (j, a) in acc.iter().enumerate() {
                    a.store(m.add(i * width + j * V::LANES));
                }
            }
        }
    }
}

/// sum[k, c] = Σ_t y[t, k]·x[t, c] over tiles t, for all of `ks × cs`, whole multiples of the lanes (and `ks` of `MR`
/// and `MR1`); added to what there is unless this is the beginning.
///
/// # Safety
/// The instruction set of `V` is present; y, x and sum are `[tiles, ks]`, `[tiles, cs]` and `[ks, cs]`.
#[inline(always)]
pub(super) unsafe fn outer<V: Arithmetic, const MR: usize, const MR1: usize>(
    (y, ks): (*const f32, usize),
    (x, cs): (*const f32, usize),
    tiles: usize,
    begin: bool,
    sum: *mut f32,
) {
    let pairs = cs / (2 * V::LANES) * 2 * V::LANES;
    // SAFETY: as the caller guarantees.
    unsafe {
        for k in (0..ks).step_by(MR) {
            for c in (0..pairs).step_by(2 * V::LANES) {
                outer_tile::<V, MR, 2>((y.add(k), ks), (x.add(c), cs), tiles, begin, sum.add(k * cs + c));
            }
        }
        if pairs < cs {
            for k in (0..ks).step_by(MR1) {
                let (y, x, sum) = (y.add(k), x.add(pairs), sum.add(k * cs + pairs));
                outer_tile::<V, MR1, 1>((y, ks), (x, cs), tiles, begin, sum);
            }
        }
    }
}

/// # Safety
/// As [`outer`], for `MR` rows and `KV` vectors.
#[inline(always)]
unsafe fn outer_tile<V: Arithmetic, const MR: usize, const KV: usize>(
    (y, ks): (*const f32, usize),
    (x, cs): (*const f32, usize),
    tiles: usize,
    begin: bool,
    sum: *mut f32,
) {
    // SAFETY: as the caller guarantees.
    unsafe {
        let mut acc = [[V::zero(); KV]; MR];
        if !begin {
            for (i, acc) in acc.iter_mut().enumerate() {
                for (j, a) in acc.iter_mut().enumerate() {
                    *a = V::load(sum.add(i * cs + j * V::LANES));
                }
            }
        }
        let (mut x, mut y) = (x, y);
        for _ in 0..tiles {
            let b: [V; KV] = core::array::from_fn(|j| V::load(x.add(j * V::LANES)));
            for (i, acc) in acc.iter_mut().enumerate() {
                let a = V::splat(y.add(i));
                for (acc, &b) in acc.iter_mut().zip(&b) {
                    *acc = acc.fma(a, b);
                }
            }
            x = x.add(cs);
            y = y.add(ks);
        }
        for (i, acc) in acc.iter().enumerate() {
            for (j, a) in acc.iter().enumerate() {
                a.store(sum.add(i * cs + j * V::LANES));
            }
        }
    }
}
