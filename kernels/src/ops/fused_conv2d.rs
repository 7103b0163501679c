//! Convolutions fused with their neighbours in a pre-activation network: the input is normalised and rectified while it
//! is loaded, and the statistics for the next batch norm are computed block by block while the result is in the cache.
//!
//! Invariant: y, dx and dw are those of the plain ops on a normalised copy, bit for bit; sums and statistics differ
//! from those of the plain ops only in where chunks end.

pub mod cuda;

use crate::cpu::{Cpu, Products, Real};
use crate::ops::bn_stats::Stats;
use crate::ops::conv2d::{Add, Conv, ConvInput, ConvShape, ConvWeightGrad, Epilogue, Prologue};
pub use crate::ops::grouped::Grouped;
use crate::ops::scale_shift_leaky::Reduce;

/// The prepared part of a normalisation on load: y = leaky((x − mean)·scale + shift).
#[derive(Clone, Debug)]
pub struct Normalise {
    ends: Vec<usize>,
    leak: f64,
}

impl Normalise {
    /// For groups of images.
    pub fn new(groups: &[usize], leak: f64) -> Self {
        let ends = groups.iter().scan(0, |end, n| {
            *end += n;
            Some(*end)
        });
        Self { ends: ends.collect(), leak }
    }

    /// The input x with its mean, scale and shift.
    fn source<'a, T: Real>(&'a self, x: &'a [T], [mean, scale, shift]: [&'a [T]; 3]) -> ConvInput<'a, T> {
        ConvInput {
            x,
            prologue: Some(Prologue { ends: &self.ends, mean, scale, shift, leak: T::of(self.leak) }),
        }
    }
}

/// y = x' ∗ w + bias + addend, where x' is x or x normalised; and the statistics of y.
#[derive(Debug)]
pub struct Forward {
    conv: Conv,
    prologue: Option<Normalise>,
    stats: Option<Stats>,
}

impl Forward {
    /// `stats`: y's groups of images, if its statistics are to be computed.
    pub fn new(
        products: Products,
        shape: ConvShape,
        prologue: Option<Normalise>,
        stats: Option<&[usize]>,
    ) -> Self {
        let conv = if prologue.is_some() {
            Conv::forward_normed(products, shape)
        } else {
            Conv::forward(products, shape)
        };
        let stats = stats.map(|groups| Stats::of_blocks(result(&shape, groups), conv.block_len()));
        Self { conv, prologue, stats }
    }

    /// Elements of workspace.
    pub fn workspace(&self, cpu: &Cpu) -> usize {
        self.conv.workspace(cpu) + self.stats.as_ref().map_or(0, Stats::workspace)
    }

    /// Computes y from x, its mean, scale and shift if it is normalised, filters and bias; then mean and biased
    /// variance of y, if they are wanted.
    pub fn run<T: Real>(
        &self,
        cpu: &Cpu,
        (x, coefficients): (&[T], Option<[&[T]; 3]>),
        (w, bias): (&[T], &[T]),
        add: Add<'_, T>,
        y: &mut [T],
        found: Option<(&mut [T], &mut [T])>,
        workspace: &mut [T],
    ) {
        let (workspace, parts) = workspace.split_at_mut(self.conv.workspace(cpu));
        let source = match (&self.prologue, coefficients) {
            (Some(prologue), Some(k)) => prologue.source(x, k),
            _ => x.into(),
        };
        let (Some(stats), Some((mean, var))) = (&self.stats, found) else {
            self.conv.run(cpu, source, w, Some(bias), add, y, None, workspace);
            return;
        };
        let look = |first: usize, y: &[T], part: &mut [T]| stats.block(cpu.simd, first, y, part);
        let epilogue =
            Epilogue { parts: &mut *parts, part_len: stats.block_part(), also_read: &[], run: &look };
        self.conv.run(cpu, source, w, Some(bias), add, y, Some(epilogue), workspace);
        stats.merge(cpu.simd, parts, mean, var);
    }
}

/// The gradient with respect to the normalised input, and the sums over it that give the gradients of mean, scale and
/// shift.
#[derive(Debug)]
pub struct InputGrad {
    conv: Conv,
    reduce: Reduce,
}

impl InputGrad {
    /// `groups`: the numbers of consecutive images that have one mean and one scale.
    pub fn new(products: Products, shape: ConvShape, groups: &[usize], leak: f64) -> Self {
        let conv = Conv::input_grad(products, shape);
        let reduce = Reduce::of_blocks(input(&shape, groups), leak, conv.block_len());
        Self { conv, reduce }
    }

    /// Elements of workspace.
    pub fn workspace(&self, cpu: &Cpu) -> usize {
        self.conv.workspace(cpu) + self.reduce.workspace()
    }

    /// dh from dy and the filters; dscale[g, c] = Σ dz·(x − mean) and dshift[g, c] = Σ dz, dz = leaky'(z)·dh.
    pub fn run<T: Real>(
        &self,
        cpu: &Cpu,
        (dy, w): (&[T], &[T]),
        x: &[T],
        [mean, scale, shift]: [&[T]; 3],
        dh: &mut [T],
        (dscale, dshift): (&mut [T], &mut [T]),
        workspace: &mut [T],
    ) {
        let (workspace, rest) = workspace.split_at_mut(self.conv.workspace(cpu));
        let (parts, k) = rest.split_at_mut(self.reduce.parts());
        self.reduce.repeat((mean, scale, shift), k);
        let k = &*k;
        let look =
            |first: usize, dh: &[T], part: &mut [T]| self.reduce.block(cpu.simd, first, x, dh, k, part);
        let epilogue =
            Epilogue { parts: &mut *parts, part_len: self.reduce.block_part(), also_read: x, run: &look };
        self.conv.run(cpu, dy.into(), w, None, Add::None, dh, Some(epilogue), workspace);
        self.reduce.total(cpu.simd, parts, dscale, dshift);
    }
}

/// The gradient with respect to the filters, of an input that is normalised on load.
#[derive(Debug)]
pub struct WeightGrad {
    conv: ConvWeightGrad,
    prologue: Normalise,
}

impl WeightGrad {
    /// Prepares it for a shape.
    pub fn new(products: Products, shape: ConvShape, prologue: Normalise) -> Self {
        Self { conv: ConvWeightGrad::new(products, shape), prologue }
    }

    /// Elements of workspace.
    pub fn workspace(&self, cpu: &Cpu) -> usize {
        self.conv.workspace(cpu)
    }

    /// dw from x with its mean, scale and shift, and dy.
    pub fn run<T: Real>(
        &self,
        cpu: &Cpu,
        x: &[T],
        coefficients: [&[T]; 3],
        dy: &[T],
        dw: &mut [T],
        workspace: &mut [T],
    ) {
        self.conv.run(cpu, self.prologue.source(x, coefficients), dy, dw, workspace);
    }
}

fn input(s: &ConvShape, groups: &[usize]) -> Grouped {
    Grouped { groups: groups.to_vec(), pixels: s.h * s.w, c: s.c }
}

fn result(s: &ConvShape, groups: &[usize]) -> Grouped {
    Grouped { groups: groups.to_vec(), pixels: s.oh() * s.ow(), c: s.k }
}
