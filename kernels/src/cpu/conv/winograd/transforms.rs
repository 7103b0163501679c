//! The transforms: polynomials of degree 5 evaluated at, and interpolated from, the points 0, ±5/8, ±3/2 and ∞.
//!
//! All are exact in exact arithmetic for any points. These are chosen because nearly all their constants are short
//! binary fractions and the errors are small: 1.8 times those of direct sums in the mean, where the customary 0, ±1, ±2
//! has 3.9 (64 channels of normal variates; Barabasz et al., "Error analysis and improving the accuracy of Winograd
//! convolution for deep neural networks", 2020, say why points whose products stay near 1 are good).

use crate::cpu::vector::Arithmetic;
use core::hint::black_box;

const A: f32 = 0.625;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;
/// The products of differences of a point to the other ones, by which filters are divided.
const N_ZERO: f32 = 1.0 / (A2 * B2);
const N_A: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
const N_B: f32 = 1.0 / (2.0 * B2 * (B2 - A2));

#[inline(always)]
unsafe fn of<V: Arithmetic>(x: f32) -> V {
    // SAFETY: a readable element; the caller has the instruction set.
    unsafe { V::splat(&x) }
}

/// A linear map of `I` to `O` vectors, lane by lane, applied to columns and then to rows of a tile.
pub(super) trait TileTransform<const I: usize, const O: usize> {
    /// # Safety
    /// The instruction set of `V` is present.
    unsafe fn apply<V: Arithmetic>(x: [V; I]) -> [V; O];
}

/// Bᵀ: six values of the input.
pub(super) struct InputTransform;
impl TileTransform<6, 6> for InputTransform {
    #[inline(always)]
    unsafe fn apply<V: Arithmetic>(x: [V; 6]) -> [V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (a, b, na, nb) = (of::<V>(A), of::<V>(B), of::<V>(-A), of::<V>(-B));
            let (na2, nb2) = (of::<V>(-A2), of::<V>(-B2));
            let (sum, product) = (of::<V>(-A2 - B2), of::<V>(A2 * B2));
            let (ea, oa) = (x[4].fma(nb2, x[2]), x[3].fma(nb2, x[1]));
            let (eb, ob) = (x[4].fma(na2, x[2]), x[3].fma(na2, x[1]));
            [
                x[4].fma(sum, x[2]).fma(product, x[0]),
                ea.fma(a, oa),
                ea.fma(na, oa),
                eb.fma(b, ob),
                eb.fma(nb, ob),
                x[5].fma(sum, x[3]).fma(product, x[1]),
            ]
        }
    }
}

/// G: three taps of a filter.
pub(super) struct FilterTransform;
impl TileTransform<3, 6> for FilterTransform {
    #[inline(always)]
    unsafe fn apply<V: Arithmetic>(x: [V; 3]) -> [V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let ea = x[0].fma(of::<V>(A2), x[2]).mul(of::<V>(N_A));
            let eb = x[0].fma(of::<V>(B2), x[2]).mul(of::<V>(N_B));
            let (a, b) = (of::<V>(A * N_A), of::<V>(B * N_B));
            let (oa, ob) = (x[1].mul(a), x[1].mul(b));
            [x[0].mul(of::<V>(N_ZERO)), ea.add(oa), ea.sub(oa), eb.add(ob), eb.sub(ob), x[2]]
        }
    }
}

/// G for four taps: the output gradients take the position of filters in the weight gradient.
pub(super) struct GradTransform;
impl TileTransform<4, 6> for GradTransform {
    #[inline(always)]
    unsafe fn apply<V: Arithmetic>(x: [V; 4]) -> [V; 6] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (a2, b2) = (of::<V>(A2), of::<V>(B2));
            let (ea, oa) = (x[0].fma(a2, x[2]).mul(of::<V>(N_A)), x[1].fma(a2, x[3]));
            let (eb, ob) = (x[0].fma(b2, x[2]).mul(of::<V>(N_B)), x[1].fma(b2, x[3]));
            let (a, b) = (of::<V>(A * N_A), of::<V>(B * N_B));
            let (na, nb) = (of::<V>(-A * N_A), of::<V>(-B * N_B));
            let zero = x[0].mul(of::<V>(N_ZERO));
            [zero, ea.fma(a, oa), ea.fma(na, oa), eb.fma(b, ob), eb.fma(nb, ob), x[3]]
        }
    }
}

/// Aᵀ to four outputs.
pub(super) struct OutputTransform;
impl TileTransform<6, 4> for OutputTransform {
    #[inline(always)]
    unsafe fn apply<V: Arithmetic>(x: [V; 6]) -> [V; 4] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (ea, oa, eb, ob) = (x[1].add(x[2]), x[1].sub(x[2]), x[3].add(x[4]), x[3].sub(x[4]));
            [
                x[0].add(ea).add(eb),
                oa.mul(of::<V>(A)).fma(of::<V>(B), ob),
                ea.mul(of::<V>(A2)).fma(of::<V>(B2), eb),
                x[5].fma(of::<V>(A2 * A), oa).fma(of::<V>(B2 * B), ob),
            ]
        }
    }
}

/// Aᵀ to three taps.
pub(super) struct FilterGradTransform;
impl TileTransform<6, 3> for FilterGradTransform {
    #[inline(always)]
    unsafe fn apply<V: Arithmetic>(x: [V; 6]) -> [V; 3] {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let (ea, oa, eb, ob) = (x[1].add(x[2]), x[1].sub(x[2]), x[3].add(x[4]), x[3].sub(x[4]));
            [
                x[0].add(ea).add(eb),
                oa.mul(of::<V>(A)).fma(of::<V>(B), ob),
                x[5].fma(of::<V>(A2), ea).fma(of::<V>(B2), eb),
            ]
        }
    }
}

/// `I × I` vectors, at `at(i, j)`, to `O × O`.
///
/// # Safety
/// The instruction set of `V` is present, and these vectors are readable.
#[inline(always)]
pub(super) unsafe fn transform_tile<V: Arithmetic, M: TileTransform<I, O>, const I: usize, const O: usize>(
    at: impl Fn(usize, usize) -> *const f32,
) -> [[V; O]; O] {
    // Plain loops: in a closure the vectors' instructions would not be inlined.
    // SAFETY: as the caller guarantees.
    unsafe {
        let mut columns = [[V::zero(); I]; O];
        for j in 0..I {
            let mut x = [V::zero(); I];
            for (i, x) in x.iter_mut().enumerate() {
                *x = V::load(at(i, j));
            }
            for (column, x) in columns.iter_mut().zip(M::apply::<V>(x)) {
                column[j] = x;
            }
        }
        let mut rows = [[V::zero(); O]; O];
        for (row, column) in rows.iter_mut().zip(columns) {
            *row = M::apply::<V>(column);
        }
        rows
    }
}

/// Addresses of the vectors of a tile that are `row` and `column` elements apart. The values are hidden from the
/// optimiser, which would otherwise keep 36 addresses live across the surrounding loop.
#[inline(always)]
pub(super) fn strided(src: *const f32, row: usize, column: usize) -> impl Fn(usize, usize) -> *const f32 {
    let (src, row, column) = black_box((src, row, column));
    move |i, j| src.wrapping_add(i * row + j * column)
}

/// [`transform_tile`], stored `stride` elements apart.
///
/// # Safety
/// As [`transform_tile`]; `O × O` vectors are writable there.
#[inline(always)]
pub(super) unsafe fn transform_tile_to<
    V: Arithmetic,
    M: TileTransform<I, O>,
    const I: usize,
    const O: usize,
>(
    at: impl Fn(usize, usize) -> *const f32,
    dst: *mut f32,
    stride: usize,
) {
    let (dst, stride) = black_box((dst, stride));
    // SAFETY: as the caller guarantees.
    unsafe {
        for (i, row) in transform_tile::<V, M, I, O>(at).iter().enumerate() {
            for (j, x) in row.iter().enumerate() {
                x.store(dst.add((i * O + j) * stride));
            }
        }
    }
}
