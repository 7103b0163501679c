//! Batch norm with batch statistics, and the leaky ReLU after it; of a tensor, or of a residual sum that is formed on the
//! way. Made of the same parts as the separate ops (`bn_stats`, `bn_coeffs`, `scale_shift_leaky`), with the same results.

pub mod cuda;
mod library;

use crate::cpu::{Cpu, Real};
use crate::ops::bn_stats::Stats;
pub use crate::ops::grouped::Grouped;
use crate::ops::scale_shift_leaky::{self, GradArgs, Reduce};
use crate::ops::{bn_coeffs, elementwise};

/// ε, added to variances, and the slope of the leaky ReLU below zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constants {
    /// ε.
    pub eps: f64,
    /// Slope.
    pub leak: f64,
}

/// The prepared forward pass.
#[derive(Debug)]
pub struct Forward {
    shape: Grouped,
    stats: Stats,
    k: Constants,
}

/// What [`Forward::run`] writes: the result, and mean, biased variance and gamma/√(variance + ε), `[groups, c]` each.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Outputs<'a, T> {
    pub h: &'a mut [T],
    pub mean: &'a mut [T],
    pub var: &'a mut [T],
    pub scale: &'a mut [T],
}

impl Forward {
    /// Prepares it for a shape.
    pub fn new(shape: Grouped, k: Constants) -> Self {
        Self { stats: Stats::new(shape.clone()), shape, k }
    }

    /// Elements of workspace.
    pub fn workspace(&self) -> usize {
        self.stats.workspace()
    }

    /// h = leaky((x − mean)·scale + beta).
    pub fn run<T: Real>(
        &self,
        cpu: &Cpu,
        x: &[T],
        (gamma, beta): (&[T], &[T]),
        out: Outputs<'_, T>,
        workspace: &mut [T],
    ) {
        let Outputs { h, mean, var, scale } = out;
        self.stats.run(cpu, x, mean, var, workspace);
        bn_coeffs::cpu(self.k.eps, var, gamma, scale);
        scale_shift_leaky::cpu(cpu, &self.shape, self.k.leak, x, mean, scale, beta, h);
    }
}

/// y = x + add; `x` = `None`: y holds it.
pub fn sum<T: Real>(cpu: &Cpu, x: Option<&[T]>, add: &[T], y: &mut [T]) {
    elementwise::axpby(cpu, 1.0, x, 1.0, add, y);
}

/// The prepared gradient.
#[derive(Debug)]
pub struct Gradient {
    shape: Grouped,
    reduce: Reduce,
    k: Constants,
}

/// What [`Gradient::run`] reads: x and the gradient of h; mean, variance and scale as the forward pass found them.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Inputs<'a, T> {
    pub x: &'a [T],
    pub dh: &'a [T],
    pub mean: &'a [T],
    pub var: &'a [T],
    pub scale: &'a [T],
    pub gamma: &'a [T],
    pub beta: &'a [T],
    /// A tensor to add to the gradient of x.
    pub add: Option<&'a [T]>,
}

impl Gradient {
    /// Prepares it for a shape.
    pub fn new(shape: Grouped, k: Constants) -> Self {
        Self { reduce: Reduce::new(shape.clone(), k.leak), shape, k }
    }

    /// Elements of workspace.
    pub fn workspace(&self) -> usize {
        self.reduce.workspace() + 4 * self.stats()
    }

    fn stats(&self) -> usize {
        self.shape.groups.len() * self.shape.c
    }

    /// The gradients of x, gamma and beta.
    pub fn run<T: Real>(
        &self,
        cpu: &Cpu,
        g: Inputs<'_, T>,
        (dx, dgamma, dbeta): (&mut [T], &mut [T], &mut [T]),
        workspace: &mut [T],
    ) {
        let (n, c) = (self.stats(), self.shape.c);
        let (sums, workspace) = workspace.split_at_mut(4 * n);
        let (dscale, sums) = sums.split_at_mut(n);
        let (dshift, sums) = sums.split_at_mut(n);
        let (dmean, dvar) = sums.split_at_mut(n);
        self.reduce.run(cpu, g.x, g.dh, (g.mean, g.scale, g.beta), dscale, dshift, workspace);
        for ((dmean, dshift), scale) in dmean.iter_mut().zip(&*dshift).zip(g.scale) {
            *dmean = T::ZERO - *scale * *dshift;
        }
        bn_coeffs::grad_cpu(self.k.eps, g.var, g.gamma, dscale, dvar, dgamma);
        dbeta.fill(T::ZERO);
        for dshift in dshift.chunks_exact(c.max(1)) {
            dbeta.iter_mut().zip(dshift).for_each(|(sum, d)| *sum += *d);
        }
        let args = GradArgs {
            x: g.x,
            dy: g.dh,
            mean: g.mean,
            scale: g.scale,
            shift: g.beta,
            stats: Some((dmean, dvar)),
            add: g.add,
        };
        scale_shift_leaky::grad_cpu(cpu, &self.shape, self.k.leak, &args, dx);
    }
}
