//! Square pooling windows over the pixels of N×H×W×C images.

use core::ops::Range;

/// Windows of `size` × `size` pixels over images padded by `pad` pixels on each side.
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
    /// Stride between windows, in both directions.
    pub stride: usize,
    /// Padding on each side, at most half a window, so that every window contains a pixel of the image.
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

    /// Number of values of the images.
    pub fn x_len(&self) -> usize {
        self.n * self.h * self.w * self.c
    }

    /// Number of values of the result: one pixel per window.
    pub fn y_len(&self) -> usize {
        self.n * self.oh() * self.ow() * self.c
    }

    /// The pixels that window `o` covers along an axis of `len` pixels.
    #[inline(always)]
    pub(crate) fn seen(&self, o: usize, len: usize) -> Range<usize> {
        let end = o * self.stride + self.size;
        (o * self.stride).saturating_sub(self.pad)..end.saturating_sub(self.pad).min(len)
    }

    /// The windows, of `outs` along this axis, that cover pixel `i`.
    #[inline(always)]
    pub(crate) fn seers(&self, i: usize, outs: usize) -> Range<usize> {
        let last = (i + self.pad) / self.stride;
        (i + self.pad + 1).saturating_sub(self.size).div_ceil(self.stride)..(last + 1).min(outs)
    }

    /// The parameters of the CUDA kernels: n, and h, w, c, size, stride, pad, oh, ow.
    pub(crate) fn params(
        &self,
        op: &'static str,
    ) -> Result<Vec<crate::gpu::launch::Param>, crate::gpu::GpuError> {
        use crate::gpu::launch::{i32, i64, int};
        let sizes = [self.h, self.w, self.c, self.size, self.stride, self.pad, self.oh(), self.ow()];
        let sizes = sizes.into_iter().map(|v| int(op, v).map(i32));
        std::iter::once(Ok(i64(self.n))).chain(sizes).collect()
    }
}

#[cfg(test)]
mod tests;
