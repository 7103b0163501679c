//! Convolutions on the CPU: 3×3 ones of stride 1 by Winograd's minimal filtering where that is faster, the others
//! directly, in float32 or with bf16 products.
//!
//! Invariants: results depend on the layer's shape and the instruction set only, never on the number of threads
//! or on the batch; nothing is allocated while a prepared convolution runs.

mod bf16;
mod direct;
mod fusion;
mod gather;
mod microkernel;
mod prefetch;
mod reference;
mod winograd;

use super::{Cpu, Level, Products, Real, Simd};
use crate::conv_shape::ConvShape;
use bf16::{Bf16Conv, Bf16WeightGrad};
use direct::{Direct, DirectGrad};
pub use fusion::{ConvInput, Epilogue, EpilogueFn, Prologue};
use gather::Gather;
use winograd::{Winograd, WinogradGrad};

/// What is added to the result of a convolution.
#[derive(Debug)]
pub enum Add<'a, T> {
    /// Nothing.
    None,
    /// A tensor shaped like the result.
    From(&'a [T]),
    /// The old values of the result.
    InPlace,
}

fn lanes(simd: Simd) -> usize {
    match simd.level() {
        Level::Avx512 => 16,
        Level::Avx2 => 8,
        Level::Portable => 4,
    }
}

/// A prepared convolution: the forward pass or the input gradient.
#[derive(Debug)]
pub struct Conv {
    shape: ConvShape,
    algorithm: Algorithm,
    backward: bool,
}

/// How a convolution is computed: the type of products and the shape decide.
#[derive(Debug)]
enum Algorithm {
    Direct(Direct),
    Winograd(Winograd),
    Bf16(Bf16Conv),
}

impl Conv {
    /// Prepares y = x ∗ w, for a CPU with these products.
    pub fn forward(products: Products, shape: ConvShape) -> Self {
        Self { shape, algorithm: Self::forward_algorithm(products, &shape, true), backward: false }
    }

    /// Prepares y = prologue(x) ∗ w: `run` accepts a [`Prologue`].
    pub(crate) fn forward_normed(products: Products, shape: ConvShape) -> Self {
        Self { shape, algorithm: Self::forward_algorithm(products, &shape, false), backward: false }
    }

    fn forward_algorithm(products: Products, s: &ConvShape, in_place: bool) -> Algorithm {
        if winograd::pays(s, (s.oh(), s.ow()), s.c, winograd::DEPTH) {
            Algorithm::Winograd(Winograd::forward(s))
        } else if products == Products::Bf16 {
            Algorithm::Bf16(Bf16Conv::new(*s, &Gather::forward(s, in_place), false))
        } else {
            Algorithm::Direct(Direct { shape: *s, gather: Gather::forward(s, in_place), backward: false })
        }
    }

    /// Prepares dx, the gradient of the forward pass with respect to x, from dy.
    pub fn input_grad(products: Products, shape: ConvShape) -> Self {
        let algorithm = if winograd::pays(&shape, (shape.h, shape.w), shape.k, winograd::DEPTH) {
            Algorithm::Winograd(Winograd::input_grad(&shape))
        } else if products == Products::Bf16 {
            Algorithm::Bf16(Bf16Conv::new(shape, &Gather::input_grad(&shape), true))
        } else {
            Algorithm::Direct(Direct { shape, gather: Gather::input_grad(&shape), backward: true })
        };
        Self { shape, algorithm, backward: true }
    }

    /// Elements of workspace that `run` needs.
    pub fn workspace(&self, cpu: &Cpu) -> usize {
        match &self.algorithm {
            Algorithm::Direct(d) => d.workspace(cpu),
            Algorithm::Winograd(w) => w.workspace(cpu),
            Algorithm::Bf16(l) => l.workspace(cpu),
        }
    }

    /// Elements of the result in a block; the last block may be short.
    pub(crate) fn block_len(&self) -> usize {
        match &self.algorithm {
            Algorithm::Direct(d) => d.gather.block_len(),
            Algorithm::Winograd(w) => w.block_len(),
            Algorithm::Bf16(l) => l.gather.block_len(),
        }
    }

    /// Number of blocks of the result.
    #[cfg(test)]
    fn blocks(&self) -> usize {
        match &self.algorithm {
            Algorithm::Direct(d) => d.gather.blocks(self.shape.n),
            Algorithm::Winograd(w) => w.blocks(),
            Algorithm::Bf16(l) => l.gather.blocks(self.shape.n),
        }
    }

    /// Runs it. `src` is x (or dy), `dst` y (or dx), `w` the filters K×R×S×C, `bias` one value per output channel. Only
    /// a convolution made by `Conv::forward_normed` accepts a prologue.
    pub fn run<T: Real>(
        &self,
        cpu: &Cpu,
        src: ConvInput<'_, T>,
        w: &[T],
        bias: Option<&[T]>,
        add: Add<'_, T>,
        dst: &mut [T],
        epilogue: Option<Epilogue<'_, T>>,
        workspace: &mut [T],
    ) {
        let nothing = |_: usize, _: &[T], _: &mut [T]| ();
        let nothing = Epilogue { parts: &mut [], part_len: 0, also_read: &[], run: &nothing };
        let Epilogue { parts, part_len, also_read, run } = epilogue.unwrap_or(nothing);
        if let (Some(src), Some(w), Some(dst), Some(ws)) =
            (src.f32s(), T::f32s(w), T::f32s_mut(dst), T::f32s_mut(workspace))
        {
            let add = match add {
                Add::None => Add::None,
                Add::From(r) => T::f32s(r).map_or(Add::None, Add::From),
                Add::InPlace => Add::InPlace,
            };
            let run = |first: usize, block: &[f32], part: &mut [f32]| {
                run(first, bytemuck::cast_slice(block), bytemuck::cast_slice_mut(part));
            };
            let also_read = T::f32s(also_read).unwrap_or_default();
            let epilogue =
                Epilogue { parts: bytemuck::cast_slice_mut(parts), part_len, also_read, run: &run };
            let bias = bias.and_then(T::f32s);
            match &self.algorithm {
                Algorithm::Direct(d) => d.run(cpu, src, w, bias, add, dst, epilogue, ws),
                Algorithm::Winograd(d) => d.run(cpu, src, w, bias, &add, dst, epilogue, ws),
                Algorithm::Bf16(d) => d.run(cpu, src, w, bias, add, dst, epilogue, ws),
            }
            return;
        }
        if self.backward {
            reference::input_grad(&self.shape, src.x, w, add, dst);
        } else {
            reference::forward(&self.shape, &src.plain(self.shape.n), w, bias, add, dst);
        }
        let size = self.block_len().max(1);
        for (t, block) in dst.chunks(size).enumerate() {
            run(t * size, block, &mut parts[t * part_len..(t + 1) * part_len]);
        }
    }
}

#[derive(Debug)]
enum GradAlgorithm {
    Direct(DirectGrad),
    Winograd(WinogradGrad),
    Bf16(Bf16WeightGrad),
}

/// A prepared weight gradient.
#[derive(Debug)]
pub struct ConvWeightGrad {
    shape: ConvShape,
    algorithm: GradAlgorithm,
}

impl ConvWeightGrad {
    /// Prepares dw, the gradient of the forward pass of `shape` with respect to w.
    pub fn new(products: Products, shape: ConvShape) -> Self {
        let depth = shape.c.min(shape.k);
        let algorithm = if winograd::pays(&shape, (shape.oh(), shape.ow()), depth, winograd::DEPTH_GRAD) {
            GradAlgorithm::Winograd(WinogradGrad::new(shape))
        } else if products == Products::Bf16 {
            GradAlgorithm::Bf16(Bf16WeightGrad(DirectGrad::new(shape)))
        } else {
            GradAlgorithm::Direct(DirectGrad::new(shape))
        };
        Self { shape, algorithm }
    }

    /// Elements of workspace that `run` needs.
    pub fn workspace(&self, cpu: &Cpu) -> usize {
        match &self.algorithm {
            GradAlgorithm::Direct(d) => d.workspace(cpu),
            GradAlgorithm::Winograd(w) => w.workspace(cpu),
            GradAlgorithm::Bf16(l) => l.workspace(cpu),
        }
    }

    /// Computes dw from x, normalised or not, and dy.
    pub fn run<T: Real>(&self, cpu: &Cpu, x: ConvInput<'_, T>, dy: &[T], dw: &mut [T], workspace: &mut [T]) {
        if let (Some(x), Some(dy), Some(dw), Some(ws)) =
            (x.f32s(), T::f32s(dy), T::f32s_mut(dw), T::f32s_mut(workspace))
        {
            match &self.algorithm {
                GradAlgorithm::Direct(d) => d.run(cpu, x, dy, dw, ws),
                GradAlgorithm::Winograd(w) => w.run(cpu, x, dy, dw, ws),
                GradAlgorithm::Bf16(l) => l.run(cpu, x, dy, dw, ws),
            }
        } else {
            reference::weight_grad(&self.shape, &x.plain(self.shape.n), dy, dw);
        }
    }
}

#[cfg(test)]
mod tests;
