//! References for the checks of a device: plain loops in float64.

use kernels::ops::conv2d::ConvShape;

/// `len` values in (−`bound`, `bound`), determined by `seed` (SplitMix64).
pub(super) fn uniform(len: usize, bound: f32, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 24) as f32;
        (2.0 * unit - 1.0) * bound
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Number of columns of [`awkward_rows`]: more than a warp has lanes.
pub(super) const AWKWARD_COLS: usize = 40;

/// Rows of infinities, NaN, and values whose exponentials leave float32's range.
pub(super) fn awkward_rows() -> Vec<f32> {
    const INF: f32 = f32::INFINITY;
    let pairs = [
        (-INF, -INF),
        (-INF, 2.5),
        (0.0, INF),
        (-INF, INF),
        (0.0, f32::NAN),
        (INF, f32::NAN),
        (-INF, f32::NAN),
        (3e38, 3e38),
        (-3e38, -3e38),
        (-3e38, 3e38),
        (88.0, 89.5),
        (-104.0, -105.0),
        (1e-40, -1e-40),
    ];
    // The second of each pair occurs once, in a different lane in each row.
    let row = |(i, (most, once)): (usize, (f32, f32))| {
        (0..AWKWARD_COLS).map(move |c| if c == (7 * i + 3) % AWKWARD_COLS { once } else { most })
    };
    pairs.into_iter().enumerate().flat_map(row).collect()
}

/// The logsumexp of every row of a `rows × cols` matrix.
pub(super) fn logsumexp(x: &[f32], rows: usize, cols: usize) -> Vec<f64> {
    let of = |row: &[f32]| {
        let values = || row.iter().map(|&v| f64::from(v));
        if values().any(f64::is_nan) {
            return f64::NAN;
        }
        let greatest = values().fold(f64::NEG_INFINITY, f64::max);
        if greatest.is_infinite() {
            return greatest;
        }
        greatest + values().map(|v| (v - greatest).exp()).sum::<f64>().ln()
    };
    (0..rows).map(|r| of(&x[r * cols..(r + 1) * cols])).collect()
}

/// `a · b` for `a` of m × k and `b` of k × n.
pub(super) fn matmul(a: &[f32], b: &[f32], (m, k, n): (usize, usize, usize)) -> Vec<f64> {
    let dot = |i: usize, j: usize| (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j])).sum();
    (0..m * n).map(|at| dot(at / n, at % n)).collect()
}

/// Calls `visit` with the indices in x (NHWC), w (KRSC) and y (NHWC) of every product of a convolution.
fn products(shape: ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let ConvShape { n, h, w, c, k, r, s, stride, pad } = shape;
    let (oh, ow) = (shape.oh(), shape.ow());
    for (image, row, col) in pixels(n, oh, ow) {
        for (dr, dc) in (0..r * s).map(|at| (at / s, at % s)) {
            let (Some(from_row), Some(from_col)) = (
                (row * stride + dr).checked_sub(pad).filter(|&i| i < h),
                (col * stride + dc).checked_sub(pad).filter(|&j| j < w),
            ) else {
                continue;
            };
            for (filter, channel) in (0..k * c).map(|at| (at / c, at % c)) {
                visit(
                    ((image * h + from_row) * w + from_col) * c + channel,
                    ((filter * r + dr) * s + dc) * c + channel,
                    ((image * oh + row) * ow + col) * k + filter,
                );
            }
        }
    }
}

fn pixels(n: usize, h: usize, w: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..n * h * w).map(move |at| (at / (h * w), at / w % h, at % w))
}

/// The convolution of `x` with `w`.
pub(super) fn conv(shape: ConvShape, x: &[f32], w: &[f32]) -> Vec<f64> {
    let mut y = vec![0.0; shape.y_len()];
    products(shape, |i, j, o| y[o] += f64::from(x[i]) * f64::from(w[j]));
    y
}

/// The gradient of [`conv`] with respect to its input, from that with respect to its output.
pub(super) fn conv_input_grad(shape: ConvShape, w: &[f32], dy: &[f32]) -> Vec<f64> {
    let mut dx = vec![0.0; shape.x_len()];
    products(shape, |i, j, o| dx[i] += f64::from(dy[o]) * f64::from(w[j]));
    dx
}

/// The gradient of [`conv`] with respect to its filters, from that with respect to its output.
pub(super) fn conv_weight_grad(shape: ConvShape, x: &[f32], dy: &[f32]) -> Vec<f64> {
    let mut dw = vec![0.0; shape.w_len()];
    products(shape, |i, j, o| dw[j] += f64::from(dy[o]) * f64::from(x[i]));
    dw
}

#[cfg(test)]
mod tests;
