//! What is fused into a convolution: the prologue, which normalises its input as it is loaded, and the epilogue, which
//! reads its result while that is still in the cache.
//!
//! Invariant: the fused forms give what the separate ones give on a normalised copy, bit for bit.

use crate::cpu::{Real, simd::multiversion};

/// What is done to a convolution's input while it is loaded: leaky((x − mean)·scale + shift), with the coefficients of
/// the image's group. The convolution's zero padding is not normalised.
#[derive(Clone, Copy, Debug)]
pub struct Prologue<'a, T> {
    /// The index one past the last image of each group, ascending.
    pub ends: &'a [usize],
    /// Means: `[groups, c]`, or `[c]` for all groups.
    pub mean: &'a [T],
    /// Scales, shaped like the means.
    pub scale: &'a [T],
    /// Shifts, `[c]`.
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
    /// Mean, scale and shift for an image, c values each.
    pub(super) fn of(&self, image: usize) -> (&'a [T], &'a [T], &'a [T]) {
        let c = self.shift.len();
        let at = |v: &'a [T]| {
            if v.len() == c { v } else { &v[self.ends.partition_point(|e| *e <= image) * c..][..c] }
        };
        (at(self.mean), at(self.scale), self.shift)
    }

    /// Normalises pixels of one image in place; `pixels` holds only the given channels.
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

    /// The same value typed as float32, if T is float32.
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
    /// How it is normalised first, if at all.
    pub prologue: Option<Prologue<'a, T>>,
}

impl<'a, T> From<&'a [T]> for ConvInput<'a, T> {
    fn from(x: &'a [T]) -> Self {
        Self { x, prologue: None }
    }
}

impl<'a, T: Real> ConvInput<'a, T> {
    /// The same value typed as float32, if T is float32.
    pub(super) fn f32s(&self) -> Option<ConvInput<'a, f32>> {
        let prologue = match &self.prologue {
            Some(prologue) => Some(prologue.f32s()?),
            None => None,
        };
        Some(ConvInput { x: T::f32s(self.x)?, prologue })
    }

    /// A normalised copy, for the reference implementation.
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

/// `run(first, block, part)`: the index of the block's first element in the whole result, the block, and its part of
/// [`Epilogue::parts`].
pub type EpilogueFn<'a, T> = dyn Fn(usize, &[T], &mut [T]) + Sync + 'a;

/// What is done with each block of a result as soon as it is written. Blocks have `Conv::block_len` elements, in order;
/// the last may be short.
pub struct Epilogue<'a, T> {
    /// The results: `part_len` values per block.
    pub parts: &'a mut [T],
    /// Results per block, at least 1.
    pub part_len: usize,
    /// A tensor shaped like the convolution's result that `run` reads at the same positions, or empty: a hint for
    /// prefetching.
    pub also_read: &'a [T],
    /// Called for each block: see [`EpilogueFn`].
    #[allow(clippy::type_complexity)]
    pub run: &'a EpilogueFn<'a, T>,
}
