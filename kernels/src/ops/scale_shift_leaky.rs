//! y = leaky((x − mean)·scale + shift), with mean and scale of the image's group: the affine part of batch norm
//! followed by a leaky ReLU; and its gradients.
//!
//! The deviation from the mean is formed first, so that the gradient of the scale, Σ dz·(x − mean), does not
//! cancel.

pub mod cuda;

use crate::cpu::columns::{self, Term};
use crate::cpu::simd::multiversion;
use crate::cpu::vector::Arithmetic;
use crate::cpu::{Cpu, Real, Simd, for_parts};
pub use crate::ops::grouped::Grouped;
use crate::ops::grouped::{Chunks, repeat, repeat_buffer};

/// The coefficients of one group, from `[groups, c]` or `[c]`.
fn coefficient<T>(v: &[T], c: usize, group: usize) -> &[T] {
    if v.len() == c { v } else { &v[group * c..(group + 1) * c] }
}

multiversion! {
    fn forward<T: Real>(x: &[T], mean: &[T], scale: &[T], shift: &[T], leak: T, y: &mut [T]) {
        let n = mean.len();
        let (scale, shift) = (&scale[..n], &shift[..n]);
        let (mut xs, mut ys) = (x[..y.len()].chunks_exact(n), y.chunks_exact_mut(n));
        for (x, y) in (&mut xs).zip(&mut ys) {
            forward_row(x, mean, scale, shift, leak, y);
        }
        forward_row(xs.remainder(), mean, scale, shift, leak, ys.into_remainder());
    }
}

#[inline(always)]
fn forward_row<T: Real>(x: &[T], mean: &[T], scale: &[T], shift: &[T], leak: T, y: &mut [T]) {
    let n = x.len();
    let (mean, scale, shift, y) = (&mean[..n], &scale[..n], &shift[..n], &mut y[..n]);
    for j in 0..n {
        let z = (x[j] - mean[j]) * scale[j] + shift[j];
        y[j] = if z < T::ZERO { z * leak } else { z };
    }
}

/// y from x. `mean` and `scale` are `[groups, c]`, or `[c]` for all groups; `shift` is `[c]`.
pub fn cpu<T: Real>(
    cpu: &Cpu,
    shape: &Grouped,
    leak: f64,
    x: &[T],
    mean: &[T],
    scale: &[T],
    shift: &[T],
    y: &mut [T],
) {
    let (c, grain) = (shape.c, shape.grain());
    for_parts(cpu, y, grain, |t, y| {
        let at = t * grain;
        let (mut m, mut a, mut b) = (repeat_buffer(), repeat_buffer(), repeat_buffer());
        let shift = repeat(shift, &mut b);
        shape.pieces(at, y.len(), |g, r| {
            let y = &mut y[r.start - at..r.end - at];
            let (mean, scale) = (coefficient(mean, c, g), coefficient(scale, c, g));
            let (mean, scale) = (repeat(mean, &mut m), repeat(scale, &mut a));
            forward(cpu.simd, &x[r], mean, scale, shift, T::of(leak), y);
        });
    });
}

multiversion! {
    /// With `stats` (a, b, n): dx also has a/n + 2·b·(x − mean)/n. All coefficients are repeated to one length.
    fn backward<T: Real>(
        x: &[T], dy: &[T], mean: &[T], scale: &[T], shift: &[T], stats: Option<(&[T], &[T], T)>, leak: T,
        add: Option<&[T]>, dx: &mut [T],
    ) {
        let n = mean.len();
        for (i, dx) in dx.chunks_mut(n).enumerate() {
            let (at, len) = (i * n, dx.len());
            let (x, dy) = (&x[at..][..len], &dy[at..][..len]);
            let (mean, scale, shift) = (&mean[..len], &scale[..len], &shift[..len]);
            let add = add.map(|add| &add[at..][..len]);
            let stats = stats.map(|(a, b, n)| (&a[..len], &b[..len], T::ONE / n, T::of(2.0) / n));
            match (add, stats) {
                (None, None) => {
                    for j in 0..len {
                        dx[j] = through(x[j], dy[j], mean[j], scale[j], shift[j], leak).0;
                    }
                }
                (Some(add), None) => {
                    for j in 0..len {
                        dx[j] = add[j] + through(x[j], dy[j], mean[j], scale[j], shift[j], leak).0;
                    }
                }
                (None, Some((a, b, one, two))) => {
                    for j in 0..len {
                        let (dz, d) = through(x[j], dy[j], mean[j], scale[j], shift[j], leak);
                        dx[j] = (dz + a[j] * one) + (b[j] * two) * d;
                    }
                }
                (Some(add), Some((a, b, one, two))) => {
                    for j in 0..len {
                        let (dz, d) = through(x[j], dy[j], mean[j], scale[j], shift[j], leak);
                        dx[j] = add[j] + ((dz + a[j] * one) + (b[j] * two) * d);
                    }
                }
            }
        }
    }
}

/// dz·scale with dz = leaky'(z)·dy, and x − mean.
#[inline(always)]
fn through<T: Real>(x: T, dy: T, mean: T, scale: T, shift: T, leak: T) -> (T, T) {
    let d = x - mean;
    let dz = if d * scale + shift > T::ZERO { dy } else { dy * leak };
    (dz * scale, d)
}

/// What the gradient with respect to x needs.
#[derive(Debug)]
pub struct GradArgs<'a, T> {
    /// The forward input.
    pub x: &'a [T],
    /// Gradient of y.
    pub dy: &'a [T],
    /// As in the forward pass.
    pub mean: &'a [T],
    /// As in the forward pass.
    pub scale: &'a [T],
    /// As in the forward pass.
    pub shift: &'a [T],
    /// Gradients of the group's mean and biased variance, if x's statistics depend on x.
    pub stats: Option<(&'a [T], &'a [T])>,
    /// A tensor to add, like x.
    pub add: Option<&'a [T]>,
}

/// dx = add + leaky'(z)·dy·scale, plus dmean/n + 2·dvar·(x − mean)/n if `stats` is given: the whole gradient of
/// a batch norm in one pass.
pub fn grad_cpu<T: Real>(cpu: &Cpu, shape: &Grouped, leak: f64, g: &GradArgs<'_, T>, dx: &mut [T]) {
    let (c, grain) = (shape.c, shape.grain());
    for_parts(cpu, dx, grain, |t, dx| {
        let at = t * grain;
        let (mut m, mut s, mut h, mut a, mut b) =
            (repeat_buffer(), repeat_buffer(), repeat_buffer(), repeat_buffer(), repeat_buffer());
        let shift = repeat(g.shift, &mut h);
        shape.pieces(at, dx.len(), |group, r| {
            let dx = &mut dx[r.start - at..r.end - at];
            let (mean, scale) = (coefficient(g.mean, c, group), coefficient(g.scale, c, group));
            let (mean, scale) = (repeat(mean, &mut m), repeat(scale, &mut s));
            let stats = g.stats.map(|(dmean, dvar)| {
                let (dmean, dvar) = (coefficient(dmean, c, group), coefficient(dvar, c, group));
                (repeat(dmean, &mut a), repeat(dvar, &mut b), T::of(shape.rows(group) as f64))
            });
            let (x, dy, add) = (&g.x[r.clone()], &g.dy[r.clone()], g.add.map(|add| &add[r]));
            backward(cpu.simd, x, dy, mean, scale, shift, stats, T::of(leak), add, dx);
        });
    });
}

/// dz·(x − mean) and dz, dz = leaky'(z)·dy; coefficients of each column.
#[derive(Clone, Copy)]
struct Slopes<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    mean: &'a [T],
    scale: &'a [T],
    shift: &'a [T],
    leak: T,
}

// SAFETY: lanes are read from the tensors at i and from the coefficients at j, as in `one`; leak is one value.
unsafe impl<T: Real> Term<T, 2> for Slopes<'_, T> {
    fn len(&self) -> usize {
        self.x.len()
    }
    #[inline(always)]
    fn one(&self, i: usize, j: usize) -> [T; 2] {
        let d = self.x[i] - self.mean[j];
        let dy = self.dy[i];
        let dz = if d * self.scale[j] + self.shift[j] > T::ZERO { dy } else { dy * self.leak };
        [dz * d, dz]
    }
    #[inline(always)]
    fn tensors(&self) -> [Option<*const T>; 2] {
        [Some(self.x.as_ptr()), Some(self.dy.as_ptr())]
    }
    #[inline(always)]
    unsafe fn add<V: Arithmetic>(&self, i: usize, j: usize, [dscale, dshift]: [V; 2]) -> [V; 2] {
        // SAFETY: as the caller guarantees.
        unsafe {
            let (x, dy) = (self.x.as_ptr().add(i), self.dy.as_ptr().add(i));
            let (mean, scale) = (self.mean.as_ptr().add(j), self.scale.as_ptr().add(j));
            let shift = self.shift.as_ptr().add(j);
            let d = V::load(x.cast()).sub(V::load(mean.cast()));
            // Rounded twice, as in the forward pass.
            let z = d.mul(V::load(scale.cast())).add(V::load(shift.cast()));
            let dz = V::load(dy.cast()).through(z, V::splat((&raw const self.leak).cast()));
            [dscale.fma(dz, d), dshift.add(dz)]
        }
    }
}

/// Prepared sums over each group: dscale[g, c] = Σ dz·(x − mean) and dshift[g, c] = Σ dz, dz = leaky'(z)·dy.
#[derive(Debug)]
pub struct Reduce {
    chunks: Chunks,
    span: usize,
    leak: f64,
}

impl Reduce {
    /// Prepares it for a shape.
    pub fn new(shape: Grouped, leak: f64) -> Self {
        let span = columns::span(shape.c);
        Self { chunks: Chunks::new(shape, 2 * span), span, leak }
    }

    /// For tensors that are seen in blocks of `len` elements, whole rows, by [`Reduce::block`].
    pub(crate) fn of_blocks(shape: Grouped, leak: f64, len: usize) -> Self {
        let span = columns::span(shape.c);
        Self { chunks: Chunks::of_blocks(shape, len, 2 * span), span, leak }
    }

    /// Elements that a block finds.
    pub(crate) fn block_part(&self) -> usize {
        self.chunks.block_part()
    }

    /// Elements of workspace for what the chunks find.
    pub fn parts(&self) -> usize {
        self.chunks.parts()
    }

    /// Elements of workspace for the repeated coefficients.
    pub fn coefficients(&self) -> usize {
        self.chunks.shape().groups.len() * 3 * self.span
    }

    /// Elements of workspace of [`Reduce::run`].
    pub fn workspace(&self) -> usize {
        self.parts() + self.coefficients()
    }

    /// Mean, scale and shift of each group, each repeated to the same length.
    pub fn repeat<T: Real>(&self, (mean, scale, shift): (&[T], &[T], &[T]), to: &mut [T]) {
        let c = self.chunks.shape().c;
        for (g, to) in to.chunks_exact_mut(3 * self.span).enumerate() {
            for (v, to) in [mean, scale, shift].into_iter().zip(to.chunks_exact_mut(self.span)) {
                let v = coefficient(v, c, g);
                to.chunks_exact_mut(c).for_each(|to| to.copy_from_slice(v));
            }
        }
    }

    /// The sums; chunks are added in order, in float64.
    pub fn run<T: Real>(
        &self,
        cpu: &Cpu,
        x: &[T],
        dy: &[T],
        coefficients: (&[T], &[T], &[T]),
        dscale: &mut [T],
        dshift: &mut [T],
        workspace: &mut [T],
    ) {
        let (parts, k) = workspace.split_at_mut(self.parts());
        self.repeat(coefficients, k);
        let k = &*k;
        self.chunks.run(cpu, parts, |chunk, r, part| {
            self.chunk(cpu.simd, chunk.group, &x[r.clone()], &dy[r], k, part);
        });
        self.total(cpu.simd, parts, dscale, dshift);
    }

    /// The sums of a chunk, from the repeated coefficients.
    fn chunk<T: Real>(&self, simd: Simd, group: usize, x: &[T], dy: &[T], k: &[T], part: &mut [T]) {
        let (mean, k) = k[group * 3 * self.span..][..3 * self.span].split_at(self.span);
        let (scale, shift) = k.split_at(self.span);
        let terms = Slopes { x, dy, mean, scale, shift, leak: T::of(self.leak) };
        columns::sums(simd, &terms, self.chunks.shape().c, self.chunks.prefetch(), part);
    }

    /// What the block `dy` that starts at element `first` gives, in its part of the workspace; x is the whole tensor.
    pub fn block<T: Real>(&self, simd: Simd, first: usize, x: &[T], dy: &[T], k: &[T], part: &mut [T]) {
        let x = &x[first..first + dy.len()];
        self.chunks.block(first, dy.len(), part, |chunk, r, part| {
            self.chunk(simd, chunk.group, &x[r.clone()], &dy[r], k, part);
        });
    }

    /// The sums from what the chunks gave, added in order, in float64.
    pub fn total<T: Real>(&self, simd: Simd, parts: &[T], dscale: &mut [T], dshift: &mut [T]) {
        self.chunks.total(simd, self.span, parts, [dscale, dshift]);
    }
}

#[cfg(test)]
mod tests;
