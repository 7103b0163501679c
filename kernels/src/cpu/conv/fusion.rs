//! What is fused into a convolution: the prologue, which normalises its input as it is loaded, and the epilogue, which
//! reads its result while that is still in the cache.
//!
//! Invariant: the fused forms give what the separate ones give on a normalised copy, bit for bit.

use crate::cpu::{Real, simd::multiversion};

/// leaky((x − mean)·scale + shift), by the group of the image: what is done to an input while it is loaded. The
/// padding of the convolution is zero after it.
#[derive(Clone, Copy, Debug)]
pub struct Prologue<'a, T> {
    /// Images before the end of each group, ascending.
    pub ends: &'a [usize],
    /// `[groups, c]`, or `[c]` for all groups.
    pub mean: &'a [T],
    /// Like the mean.
    pub scale: &'a [T],
    /// `[c]`.
    pub shift: &'a [T],
    /// Slope below zero.
    pub leak: T,
}

multiversion! {
    fn normalise<T: Real>(x: &mut [T], mean: &[T], scale: &[T], shift: &[T], leak: T) {
        let c = shift.len();
        let (mean, scale) = (&mean[..c], &scale[..c]);
        for x in x.chunks_exact_mut(c) {
            for j in 0..c {
                let z = (x[j] - mean[j]) * scale[j] + shift[j];
                x[j] = if z < T::ZERO { z * leak } else { z };
            }
        }
    }
}

impl<'a, T: Real> Prologue<'a, T> {
    /// Mean, scale and shift of an image, c values each.
    pub(super) fn of(&self, image: usize) -> (&'a [T], &'a [T], &'a [T]) {
        let c = self.shift.len();
        let at = |v: &'a [T]| {
            if v.len() == c { v } else { &v[self.ends.partition_point(|e| *e <= image) * c..][..c] }
        };
        (at(self.mean), at(self.scale), self.shift)
    }

    /// Normalises pixels of one image in place, of which only some channels are there.
    pub(super) fn apply(
        &self,
        simd: crate::cpu::Simd,
        image: usize,
        channels: core::ops::Range<usize>,
        pixels: &mut [T],
    ) {
        let (mean, scale, shift) = self.of(image);
        let of = |v: &'a [T]| &v[channels.clone()];
        normalise(simd, pixels, of(mean), of(scale), of(shift), self.leak);
    }

    /// As float32, if T is that.
    pub(super) fn f32s(&self) -> Option<Prologue<'a, f32>> {
        let [leak] = *T::f32s(&[self.leak])? else { return None };
        let (mean, scale, shift) = (T::f32s(self.mean)?, T::f32s(self.scale)?, T::f32s(self.shift)?);
        Some(Prologue { ends: self.ends, mean, scale, shift, leak })
    }
}

/// The input of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct ConvInput<'a, T> {
    /// N×H×W×C.
    pub x: &'a [T],
    /// What is done to it first.
    pub prologue: Option<Prologue<'a, T>>,
}

impl<'a, T> From<&'a [T]> for ConvInput<'a, T> {
    fn from(x: &'a [T]) -> Self {
        Self { x, prologue: None }
    }
}

impl<'a, T: Real> ConvInput<'a, T> {
    /// As float32, if T is that.
    pub(super) fn f32s(&self) -> Option<ConvInput<'a, f32>> {
        let prologue = match &self.prologue {
            Some(prologue) => Some(prologue.f32s()?),
            None => None,
        };
        Some(ConvInput { x: T::f32s(self.x)?, prologue })
    }

    /// A normalised copy: the plain form.
    pub(super) fn plain(&self, images: usize) -> Vec<T> {
        let mut x = self.x.to_vec();
        if let Some(prologue) = &self.prologue {
            let size = (x.len() / images.max(1)).max(1);
            for (i, x) in x.chunks_mut(size).enumerate() {
                prologue.apply(
                    crate::cpu::Simd::detect(crate::cpu::Level::Portable),
                    i,
                    0..prologue.shift.len(),
                    x,
                );
            }
        }
        x
    }
}

/// `look(first, block, part)`: the block's first element in the whole result, its values, and its own part of what is found.
pub type EpilogueFn<'a, T> = dyn Fn(usize, &[T], &mut [T]) + Sync + 'a;

/// What is done with each block of a result as prefetch as it is written. Blocks are those of `Conv::block_len`, in order;
/// the last may be short.
pub struct Epilogue<'a, T> {
    /// Where blocks put what they find: `each` values a block.
    pub parts: &'a mut [T],
    /// Values a block, at least 1.
    pub part_len: usize,
    /// A tensor like the result that `run` reads where it reads the result, or nothing: it may be fetched meanwhile.
    pub also_read: &'a [T],
    /// `run(first, block, part)`: the block's first element in the whole result, its values, and its own part.
    #[allow(clippy::type_complexity)]
    pub run: &'a EpilogueFn<'a, T>,
}
