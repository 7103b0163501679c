//! y = leaky((x − mean)·scale + shift), with mean and scale of the image's group: the last part of batch norm,
//! with its rectifier; and its gradients.
//!
//! The deviation from the mean is formed first, so that the gradient of the scale, Σ dz·(x − mean), does not
//! cancel.

pub mod cuda;

pub use crate::channels::Grouped;
use crate::channels::{Chunk, repeat, repeats};
use crate::cpu::{Cpu, Real, for_parts, simd::multiversion};

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
    leak: f64,
}

impl Reduce {
    /// For a shape.
    pub fn new(shape: Grouped, leak: f64) -> Self {
        let chunks = shape.chunks();
        Self { shape, chunks, leak }
    }

    fn span(&self) -> usize {
        self.shape.c * repeats(self.shape.c)
    }

    /// Elements of workspace.
    pub fn workspace(&self) -> usize {
        self.chunks.len() * 2 * self.span()
    }

    /// The sums; chunks are added in order in float64.
    pub fn run<T: Real>(
        &self,
        cpu: &Cpu,
        x: &[T],
        dy: &[T],
        (mean, scale, shift): (&[T], &[T], &[T]),
        dscale: &mut [T],
        dshift: &mut [T],
        workspace: &mut [T],
    ) {
        let (c, span) = (self.shape.c, self.span());
        let coeffs: Vec<_> =
            (0..self.shape.groups.len()).map(|g| Coeffs::of(mean, scale, shift, g)).collect();
        for_parts(cpu, workspace, 2 * span, |t, part| {
            let Some(chunk) = self.chunks.get(t) else { return };
            let k = &coeffs[chunk.group];
            let at = chunk.start * c..chunk.end * c;
            let (a, b) = part.split_at_mut(span);
            sums(cpu.simd, &x[at.clone()], &dy[at], &k.mean, &k.scale, &k.shift, T::of(self.leak), a, b);
        });
        let mut total = vec![(0.0f64, 0.0f64); self.shape.groups.len() * c];
        for (chunk, part) in self.chunks.iter().zip(workspace.chunks_exact(2 * span)) {
            for (j, (a, b)) in part[..span].iter().zip(&part[span..]).enumerate() {
                let sum = &mut total[chunk.group * c + j % c];
                sum.0 += a.to_f64();
                sum.1 += b.to_f64();
            }
        }
        for (i, (a, b)) in total.into_iter().enumerate() {
            dscale[i] = T::of(a);
            dshift[i] = T::of(b);
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
