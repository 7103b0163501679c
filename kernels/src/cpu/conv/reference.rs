//! Convolutions by their definition, for any float type: the reference for the fast implementations.

use super::Add;
use crate::conv_shape::ConvShape;
use crate::cpu::Real;

/// Calls `f(input offset, output offset, filter offset)` for each pixel and tap inside the image, with the
/// offsets of channel 0 (input), channel 0 (output) and filter 0.
fn taps(s: &ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    let (oh, ow) = (s.oh(), s.ow());
    for n in 0..s.n {
        for (y, x) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
            for (r, q) in (0..s.r).flat_map(|r| (0..s.s).map(move |q| (r, q))) {
                let (h, w) = (y * s.stride + r, x * s.stride + q);
                if h < s.pad || w < s.pad || h - s.pad >= s.h || w - s.pad >= s.w {
                    continue;
                }
                let input = ((n * s.h + h - s.pad) * s.w + w - s.pad) * s.c;
                f(input, ((n * oh + y) * ow + x) * s.k, (r * s.s + q) * s.c);
            }
        }
    }
}

fn begin<T: Real>(dst: &mut [T], add: Add<'_, T>) {
    match add {
        Add::None => dst.fill(T::ZERO),
        Add::From(r) => dst.copy_from_slice(r),
        Add::InPlace => {}
    }
}

pub(super) fn forward<T: Real>(
    s: &ConvShape,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    add: Add<'_, T>,
    y: &mut [T],
) {
    begin(y, add);
    if let Some(b) = bias {
        y.chunks_exact_mut(s.k).for_each(|y| y.iter_mut().zip(b).for_each(|(y, &b)| *y += b));
    }
    let filter = s.r * s.s * s.c;
    taps(s, |xi, yi, wi| {
        for k in 0..s.k {
            for c in 0..s.c {
                y[yi + k] += x[xi + c] * w[k * filter + wi + c];
            }
        }
    });
}

pub(super) fn input_grad<T: Real>(s: &ConvShape, dy: &[T], w: &[T], add: Add<'_, T>, dx: &mut [T]) {
    begin(dx, add);
    let filter = s.r * s.s * s.c;
    taps(s, |xi, yi, wi| {
        for k in 0..s.k {
            for c in 0..s.c {
                dx[xi + c] += dy[yi + k] * w[k * filter + wi + c];
            }
        }
    });
}

pub(super) fn weight_grad<T: Real>(s: &ConvShape, x: &[T], dy: &[T], dw: &mut [T]) {
    dw.fill(T::ZERO);
    let filter = s.r * s.s * s.c;
    taps(s, |xi, yi, wi| {
        for k in 0..s.k {
            for c in 0..s.c {
                dw[k * filter + wi + c] += dy[yi + k] * x[xi + c];
            }
        }
    });
}
