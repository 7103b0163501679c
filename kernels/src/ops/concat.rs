//! Concatenation along channels with zero padding on all sides, and its inverse, which crops the padding.

use crate::cpu::{Cpu, GRAIN, Real, for_parts};

/// Zero padding around N×H×W×C images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Rows above, and as many below.
    pub rows: usize,
    /// Columns to the left, and as many to the right.
    pub columns: usize,
    /// Channels before the first.
    pub before: usize,
    /// Channels after the last.
    pub after: usize,
}

/// `n` images of `h` × `w` pixels without padding, with `c` channels in one array and `before + c + after` channels in
/// another, padded one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Images.
    pub n: usize,
    /// Height inside.
    pub h: usize,
    /// Width inside.
    pub w: usize,
    /// Channels inside.
    pub c: usize,
    /// The padding.
    pub frame: Frame,
}

impl Inside {
    /// Number of values without the padding.
    pub fn inner_len(&self) -> usize {
        self.n * self.h * self.w * self.c
    }

    /// Number of values with the padding.
    pub fn outer_len(&self) -> usize {
        self.n * self.outer_h() * self.outer_w() * self.outer_c()
    }

    fn outer_h(&self) -> usize {
        self.h + 2 * self.frame.rows
    }

    fn outer_w(&self) -> usize {
        self.w + 2 * self.frame.columns
    }

    fn outer_c(&self) -> usize {
        self.frame.before + self.c + self.frame.after
    }
}

/// Puts x into y, which has the frame: x's channels, zeros beside them in the channels from `zeros[0]` before them to
/// `zeros[1]` after them, and zeros above, below, left and right of all these. Other channels of y are left alone.
pub fn place<T: Real>(cpu: &Cpu, v: &Inside, zeros: [usize; 2], x: &[T], y: &mut [T]) {
    let (oh, ow, oc, Frame { rows: top, columns: left, before, .. }) =
        (v.outer_h(), v.outer_w(), v.outer_c(), v.frame);
    let (row, whole) = (ow * oc, v.c == oc);
    let (from, to) = (before - zeros[0], before + v.c + zeros[1]);
    let rows = (GRAIN / row.max(1)).max(1);
    for_parts(cpu, y, rows * row, |t, y| {
        for (k, y) in y.chunks_exact_mut(row).enumerate() {
            let (image, i) = ((t * rows + k) / oh, (t * rows + k) % oh);
            let inside = (top..top + v.h).contains(&i);
            let x = if inside { &x[(image * v.h + i - top) * v.w * v.c..][..v.w * v.c] } else { &[] };
            if whole && inside {
                y[..left * oc].fill(T::ZERO);
                y[left * oc..][..x.len()].copy_from_slice(x);
                y[left * oc + x.len()..].fill(T::ZERO);
                continue;
            }
            for (j, y) in y.chunks_exact_mut(oc).enumerate() {
                let x = j.checked_sub(left).and_then(|j| x.get(j * v.c..(j + 1) * v.c));
                match x {
                    None => y[from..to].fill(T::ZERO),
                    Some(x) => {
                        y[from..before].fill(T::ZERO);
                        y[before..before + v.c].copy_from_slice(x);
                        y[before + v.c..to].fill(T::ZERO);
                    }
                }
            }
        }
    });
}

/// y = x, which is padded, without its padding.
pub fn cut<T: Real>(cpu: &Cpu, v: &Inside, x: &[T], y: &mut [T]) {
    let (oh, ow, oc, f) = (v.outer_h(), v.outer_w(), v.outer_c(), v.frame);
    let row = v.w * v.c;
    let rows = (GRAIN / row.max(1)).max(1);
    for_parts(cpu, y, rows * row, |t, y| {
        for (k, y) in y.chunks_exact_mut(row).enumerate() {
            let (image, i) = ((t * rows + k) / v.h, (t * rows + k) % v.h);
            let x = &x[((image * oh + i + f.rows) * ow + f.columns) * oc..];
            for (y, x) in y.chunks_exact_mut(v.c).zip(x.chunks_exact(oc)) {
                y.copy_from_slice(&x[f.before..f.before + v.c]);
            }
        }
    });
}

/// The CUDA kernels: `cuda/concat.cu`.
pub mod cuda {
    use super::Inside;
    use crate::gpu::launch::{Launch, Param, i32, i64, int, span_of, threads};
    use crate::gpu::{Gpu, GpuError};

    fn sizes(v: &Inside) -> Result<Vec<Param>, GpuError> {
        let f = v.frame;
        let sizes = [v.h, v.w, v.c, f.rows, f.columns, f.before, f.after];
        let sizes = sizes.into_iter().map(|n| int("concat", n).map(i32));
        std::iter::once(Ok(i64(v.n))).chain(sizes).collect()
    }

    /// As [`super::place`]. Spans: x, y.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn place(gpu: &Gpu, v: &Inside, zeros: [usize; 2]) -> Result<Launch, GpuError> {
        let mut params = vec![span_of::<f32>("x", v.inner_len())];
        params.extend(sizes(v)?);
        for n in zeros {
            params.push(i32(int("concat", n)?));
        }
        params.push(span_of::<f32>("y", v.outer_len()));
        let written = v.outer_len() / v.outer_c().max(1) * (zeros[0] + v.c + zeros[1]);
        // SAFETY: the kernel reads inner_len values and writes among outer_len; `zeros` are parts of the frame.
        unsafe { Launch::new(gpu, "concat", "concat_place", threads(written), params) }
    }

    /// As [`super::cut`]. Spans: x, y.
    ///
    /// # Errors
    /// Errors of compiling and loading the kernel.
    pub fn cut(gpu: &Gpu, v: &Inside) -> Result<Launch, GpuError> {
        let mut params = vec![span_of::<f32>("x", v.outer_len())];
        params.extend(sizes(v)?);
        params.push(span_of::<f32>("y", v.inner_len()));
        // SAFETY: the kernel reads among outer_len values and writes inner_len.
        unsafe { Launch::new(gpu, "concat", "concat_cut", threads(v.inner_len()), params) }
    }
}
