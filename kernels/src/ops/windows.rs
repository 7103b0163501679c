//! Square windows over the pixels of N×H×W×C images: what pooling looks at.

use core::ops::Range;

/// Windows of `size` × `size` pixels over images in a margin of `pad` pixels that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Images.
    pub n: usize,
    /// Height of an image.
    pub h: usize,
    /// Its width.
    pub w: usize,
    /// Its channels.
    pub c: usize,
    /// Rows and columns of a window.
    pub size: usize,
    /// Step from window to window, both ways.
    pub stride: usize,
    /// Rows and columns before the first and after the last, at most half a window, so that none is empty.
    pub pad: usize,
}

impl Windows {
    /// Rows of windows.
    pub fn oh(&self) -> usize {
        (self.h + 2 * self.pad - self.size) / self.stride + 1
    }

    /// Columns of windows.
    pub fn ow(&self) -> usize {
        (self.w + 2 * self.pad - self.size) / self.stride + 1
    }

    /// Values of the images.
    pub fn x_len(&self) -> usize {
        self.n * self.h * self.w * self.c
    }

    /// Values of an array with a pixel a window.
    pub fn y_len(&self) -> usize {
        self.n * self.oh() * self.ow() * self.c
    }

    /// The pixels that window `o` sees along a side of `len` pixels.
    #[inline(always)]
    pub(crate) fn seen(&self, o: usize, len: usize) -> Range<usize> {
        let end = o * self.stride + self.size;
        (o * self.stride).saturating_sub(self.pad)..end.saturating_sub(self.pad).min(len)
    }

    /// The windows, `outs` along this side, that see pixel `i`.
    #[inline(always)]
    pub(crate) fn seers(&self, i: usize, outs: usize) -> Range<usize> {
        let last = (i + self.pad) / self.stride;
        (i + self.pad + 1).saturating_sub(self.size).div_ceil(self.stride)..(last + 1).min(outs)
    }

    /// The parameters of the CUDA kernels: n, and h, w, c, size, stride, pad, oh, ow.
    pub(crate) fn params(
        &self,
        stem: &'static str,
    ) -> Result<Vec<crate::gpu::launch::Param>, crate::gpu::GpuError> {
        use crate::gpu::launch::{i32, i64, int};
        let sizes = [self.h, self.w, self.c, self.size, self.stride, self.pad, self.oh(), self.ow()];
        let sizes = sizes.into_iter().map(|v| int(stem, v).map(i32));
        std::iter::once(Ok(i64(self.n))).chain(sizes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_and_windows_see_each_other() {
        for (size, stride, pad) in [(3, 1, 1), (3, 2, 0), (2, 2, 0), (2, 3, 1), (5, 2, 2), (1, 1, 0)] {
            let v = Windows { n: 1, h: 7, w: 9, c: 1, size, stride, pad };
            for o in 0..v.oh() {
                assert!(!v.seen(o, v.h).is_empty());
                let seen: Vec<usize> = (0..v.h).filter(|i| v.seers(*i, v.oh()).contains(&o)).collect();
                assert_eq!(seen, v.seen(o, v.h).collect::<Vec<_>>(), "{v:?} {o}");
            }
        }
    }
}
