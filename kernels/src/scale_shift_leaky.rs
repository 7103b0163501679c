//! y = leaky((x − mean)·scale + shift), with mean and scale of the image's group: the last part of batch norm,
//! with its rectifier; and its gradients.
//!
//! The deviation from the mean is formed first, so that the gradient of the scale, Σ dz·(x − mean), does not
//! cancel.

pub mod cuda;

pub use crate::channels::Grouped;
use crate::channels::{Chunk, of_block, repeat, repeats};
use crate::cpu::{Cpu, Real, Simd, for_parts, simd::multiversion};

/// The coefficients of one group, each repeated to the same length.
struct Coeffs<T> {
    mean: Vec<T>,
    scale: Vec<T>,
    shift: Vec<T>,
}

impl<T: Real> Coeffs<T> {
    fn of(mean: &[T], scale: &[T], shift: &[T], group: usize) -> Self {
        let c = shift.len();
        let at = |v: &[T]| repeat(if v.len() == c { v } else { &v[group * c..(group + 1) * c] });
        Self { mean: at(mean), scale: at(scale), shift: at(shift) }
    }
}

multiversion! {
    fn forward<T: Real>(x: &[T], mean: &[T], scale: &[T], shift: &[T], leak: T, y: &mut [T]) {
        let n = mean.len();
        for (y, x) in y.chunks_mut(n).zip(x.chunks(n)) {
            for ((((y, &x), &m), &a), &b) in y.iter_mut().zip(x).zip(mean).zip(scale).zip(shift) {
                let z = (x - m) * a + b;
                *y = if z < T::ZERO { z * leak } else { z };
            }
        }
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
    let (grain, starts) = (shape.grain(), shape.starts());
    let coeffs: Vec<_> = (0..shape.groups.len()).map(|g| Coeffs::of(mean, scale, shift, g)).collect();
    for_parts(cpu, y, grain, |t, y| {
        let at = t * grain;
        shape.pieces(&starts, at, y.len(), |g, r| {
            let (k, y) = (&coeffs[g], &mut y[r.start - at..r.end - at]);
            forward(cpu.simd, &x[r], &k.mean, &k.scale, &k.shift, T::of(leak), y);
        });
    });
}

multiversion! {
    fn backward<T: Real>(
        x: &[T], dy: &[T], mean: &[T], scale: &[T], shift: &[T], b: &[T], a: &[T], leak: T, add: &[T], dx: &mut [T],
    ) {
        let n = mean.len();
        for (i, dx) in dx.chunks_mut(n).enumerate() {
            let len = dx.len();
            let (x, dy, add) = (&x[i * n..][..len], &dy[i * n..][..len], &add[i * n..][..len]);
            let (mean, scale, shift) = (&mean[..len], &scale[..len], &shift[..len]);
            let (a, b) = (&a[..len], &b[..len]);
            for j in 0..len {
                let d = x[j] - mean[j];
                let z = d * scale[j] + shift[j];
                let dz = if z > T::ZERO { dy[j] } else { dy[j] * leak };
                dx[j] = add[j] + ((dz * scale[j] + a[j]) + b[j] * d);
            }
        }
    }
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
    let (c, grain, starts) = (shape.c, shape.grain(), shape.starts());
    let coeffs: Vec<_> = (0..shape.groups.len())
        .map(|group| {
            let k = Coeffs::of(g.mean, g.scale, g.shift, group);
            let n = T::of(shape.rows(group) as f64);
            let at = group * c..(group + 1) * c;
            let (a, b) = match g.stats {
                Some((dmean, dvar)) => (
                    repeat(&dmean[at.clone()].iter().map(|&d| d / n).collect::<Vec<_>>()),
                    repeat(&dvar[at].iter().map(|&d| T::of(2.0) * d / n).collect::<Vec<_>>()),
                ),
                None => (vec![T::ZERO; k.mean.len()], vec![T::ZERO; k.mean.len()]),
            };
            (k, a, b)
        })
        .collect();
    let zeros = vec![T::ZERO; if g.add.is_none() { grain } else { 0 }];
    for_parts(cpu, dx, grain, |t, dx| {
        let from = t * grain;
        shape.pieces(&starts, from, dx.len(), |group, r| {
            let ((k, a, b), dx) = (&coeffs[group], &mut dx[r.start - from..r.end - from]);
            let add = g.add.map_or_else(|| &zeros[..dx.len()], |add| &add[r.clone()]);
            let (x, dy) = (&g.x[r.clone()], &g.dy[r]);
            backward(cpu.simd, x, dy, &k.mean, &k.scale, &k.shift, b, a, T::of(leak), add, dx);
        });
    });
}

multiversion! {
    fn sums<T: Real>(
        x: &[T], dy: &[T], mean: &[T], scale: &[T], shift: &[T], leak: T, dscale: &mut [T], dshift: &mut [T],
    ) {
        dscale.fill(T::ZERO);
        dshift.fill(T::ZERO);
        let n = mean.len();
        for (x, dy) in x.chunks(n).zip(dy.chunks(n)) {
            let len = x.len();
            let (dy, mean, scale, shift) = (&dy[..len], &mean[..len], &scale[..len], &shift[..len]);
            let (dscale, dshift) = (&mut dscale[..len], &mut dshift[..len]);
            for j in 0..len {
                let d = x[j] - mean[j];
                let z = d * scale[j] + shift[j];
                let dz = if z > T::ZERO { dy[j] } else { dy[j] * leak };
                dscale[j] += dz * d;
                dshift[j] += dz;
            }
        }
    }
}

/// Prepared sums over each group: dscale[g, c] = Σ dz·(x − mean) and dshift[g, c] = Σ dz, dz = leaky'(z)·dy.
#[derive(Debug)]
pub struct Reduce {
    shape: Grouped,
    chunks: Vec<Chunk>,
    /// Chunks a block has at most.
    each: usize,
    leak: f64,
}

impl Reduce {
    /// For a shape.
    pub fn new(shape: Grouped, leak: f64) -> Self {
        let chunks = shape.chunks();
        Self { shape, chunks, each: 1, leak }
    }

    /// For tensors that are seen in blocks of `len` elements, whole rows, by [`Reduce::block`].
    pub fn of_blocks(shape: Grouped, leak: f64, len: usize) -> Self {
        let (chunks, each) = shape.chunks_of_blocks(len);
        Self { shape, chunks, each, leak }
    }

    fn span(&self) -> usize {
        self.shape.c * repeats(self.shape.c)
    }

    /// Elements that a block finds.
    pub fn block_part(&self) -> usize {
        self.each * 2 * self.span()
    }

    /// Elements of workspace for what the chunks find.
    pub fn parts(&self) -> usize {
        self.chunks.last().map_or(0, |k| (k.part / self.each + 1) * self.block_part())
    }

    /// Elements of workspace for the repeated coefficients.
    pub fn coefficients(&self) -> usize {
        self.shape.groups.len() * 3 * self.span()
    }

    /// Elements of workspace of [`Reduce::run`].
    pub fn workspace(&self) -> usize {
        self.parts() + self.coefficients()
    }

    /// Mean, scale and shift of each group, each repeated to the same length.
    pub fn repeat<T: Real>(&self, (mean, scale, shift): (&[T], &[T], &[T]), to: &mut [T]) {
        let (c, span) = (self.shape.c, self.span());
        for (g, to) in to.chunks_exact_mut(3 * span).enumerate() {
            for (v, to) in [mean, scale, shift].into_iter().zip(to.chunks_exact_mut(span)) {
                let v = if v.len() == c { v } else { &v[g * c..][..c] };
                to.chunks_exact_mut(c).for_each(|to| to.copy_from_slice(v));
            }
        }
    }

    /// The sums; chunks are added in order in float64.
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
        let (k, c) = (&*k, self.shape.c);
        for_parts(cpu, parts, 2 * self.span(), |t, part| {
            let Some(chunk) = self.chunks.get(t) else { return };
            let at = chunk.start * c..chunk.end * c;
            self.chunk(cpu.simd, chunk.group, &x[at.clone()], &dy[at], k, part);
        });
        self.total(parts, dscale, dshift);
    }

    /// The sums of a chunk, from the repeated coefficients.
    fn chunk<T: Real>(&self, simd: Simd, group: usize, x: &[T], dy: &[T], k: &[T], part: &mut [T]) {
        let span = self.span();
        let (mean, k) = k[group * 3 * span..][..3 * span].split_at(span);
        let (scale, shift) = k.split_at(span);
        let (a, b) = part.split_at_mut(span);
        sums(simd, x, dy, mean, scale, shift, T::of(self.leak), a, b);
    }

    /// What the block `dy` that starts at element `first` gives, in its part of the workspace; x is the whole tensor.
    pub fn block<T: Real>(&self, simd: Simd, first: usize, x: &[T], dy: &[T], k: &[T], part: &mut [T]) {
        let x = &x[first..first + dy.len()];
        let chunks = of_block(&self.chunks, self.shape.c, first, dy.len());
        for ((chunk, r), part) in chunks.zip(part.chunks_exact_mut(2 * self.span())) {
            self.chunk(simd, chunk.group, &x[r.clone()], &dy[r], k, part);
        }
    }

    /// The sums from what the chunks gave, added in order in float64.
    pub fn total<T: Real>(&self, parts: &[T], dscale: &mut [T], dshift: &mut [T]) {
        let (c, span) = (self.shape.c, self.span());
        let sum = |v: &[T], ch: usize| v.iter().skip(ch).step_by(c).map(|v| v.to_f64()).sum::<f64>();
        for g in 0..self.shape.groups.len() {
            let first = self.chunks.partition_point(|k| k.group < g);
            let end = self.chunks.partition_point(|k| k.group <= g);
            for ch in 0..c {
                let (mut scale, mut shift) = (0.0, 0.0);
                for chunk in &self.chunks[first..end] {
                    let (a, b) = parts[chunk.part * 2 * span..][..2 * span].split_at(span);
                    scale += sum(a, ch);
                    shift += sum(b, ch);
                }
                dscale[g * c + ch] = T::of(scale);
                dshift[g * c + ch] = T::of(shift);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Level;

    #[test]
    fn the_slope_at_zero_is_the_leak_in_both_gradients() {
        for level in [Level::Portable, Level::Avx2, Level::Avx512] {
            let cpu = Cpu::new(1, level);
            let shape = Grouped { groups: vec![1], pixels: 2, c: 2 };
            // z is 0 for the first pixel and ±1 for the second.
            let (x, dy) = ([3.0f32, 3.0, 4.0, 2.0], [4.0f32; 4]);
            let (mean, scale, shift) = ([3.0f32; 2], [1.0f32; 2], [0.0f32; 2]);
            let args = GradArgs {
                x: &x,
                dy: &dy,
                mean: &mean,
                scale: &scale,
                shift: &shift,
                stats: None,
                add: None,
            };
            let mut dx = [0.0; 4];
            grad_cpu(&cpu, &shape, 0.25, &args, &mut dx);
            assert_eq!(dx, [1.0, 1.0, 4.0, 1.0]);
            let reduce = Reduce::new(shape, 0.25);
            let (mut dscale, mut dshift, mut ws) = ([0.0; 2], [0.0; 2], vec![0.0; reduce.workspace()]);
            reduce.run(&cpu, &x, &dy, (&mean, &scale, &shift), &mut dscale, &mut dshift, &mut ws);
            assert_eq!((dscale, dshift), ([4.0, -1.0], [5.0, 2.0]));
        }
    }
}
