//! Convolutions on the CPU: 3×3 ones of stride 1 by minimal filtering where it pays, the others by their definition,
//! and these in bf16 if that is asked for.
//!
//! Invariants: results depend on the layer's shape and the instruction set only, never on the number of threads
//! or on the batch; nothing is allocated while a prepared convolution runs.

mod bf16;
mod direct;
mod fuse;
mod geom;
mod micro;
mod naive;
mod soon;
mod winograd;

use super::{Cpu, Level, Products, Real, Simd};
use crate::conv_shape::ConvShape;
use bf16::{Low, LowGrad};
use direct::{Direct, DirectGrad};
pub use fuse::{After, Look, Norm, Source};
use geom::Gather;
use winograd::{Winograd, WinogradGrad};

/// What is added to a convolution's result.
#[derive(Debug)]
pub enum Add<'a, T> {
    /// Nothing.
    None,
    /// A tensor shaped like the result.
    From(&'a [T]),
    /// The old content of the result.
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
    way: Way,
    backward: bool,
}

/// How outputs are formed: products and shape decide.
#[derive(Debug)]
enum Way {
    Direct(Direct),
    Winograd(Winograd),
    Low(Low),
}

impl Conv {
    /// y = x ∗ w, for a CPU with these products.
    pub fn forward(products: Products, shape: ConvShape) -> Self {
        Self { shape, way: Self::way_forward(products, &shape, true), backward: false }
    }

    /// y = norm(x) ∗ w: `run` may be given a [`Norm`].
    pub fn forward_normed(products: Products, shape: ConvShape) -> Self {
        Self { shape, way: Self::way_forward(products, &shape, false), backward: false }
    }

    fn way_forward(products: Products, s: &ConvShape, in_place: bool) -> Way {
        if winograd::pays(s, (s.oh(), s.ow()), s.c, winograd::DEPTH) {
            Way::Winograd(Winograd::forward(s))
        } else if products == Products::Bf16 {
            Way::Low(Low::new(*s, &Gather::forward(s, in_place), false))
        } else {
            Way::Direct(Direct { shape: *s, gather: Gather::forward(s, in_place), backward: false })
        }
    }

    /// dx = the gradient of `forward` with respect to x, from dy.
    pub fn input_grad(products: Products, shape: ConvShape) -> Self {
        let way = if winograd::pays(&shape, (shape.h, shape.w), shape.k, winograd::DEPTH) {
            Way::Winograd(Winograd::input_grad(&shape))
        } else if products == Products::Bf16 {
            Way::Low(Low::new(shape, &Gather::input_grad(&shape), true))
        } else {
            Way::Direct(Direct { shape, gather: Gather::input_grad(&shape), backward: true })
        };
        Self { shape, way, backward: true }
    }

    /// Elements of workspace that `run` needs.
    pub fn workspace(&self, cpu: &Cpu) -> usize {
        match &self.way {
            Way::Direct(d) => d.workspace(cpu),
            Way::Winograd(w) => w.workspace(cpu),
            Way::Low(l) => l.workspace(cpu),
        }
    }

    /// Elements of the result in a block; the last block may be short.
    pub fn block_len(&self) -> usize {
        match &self.way {
            Way::Direct(d) => d.gather.block_len(),
            Way::Winograd(w) => w.block_len(),
            Way::Low(l) => l.gather.block_len(),
        }
    }

    /// Blocks of the result.
    pub fn blocks(&self) -> usize {
        match &self.way {
            Way::Direct(d) => d.gather.blocks(self.shape.n),
            Way::Winograd(w) => w.blocks(),
            Way::Low(l) => l.gather.blocks(self.shape.n),
        }
    }

    /// Computes. `src` is x (or dy), `dst` y (or dx), `w` the filters K×R×S×C, `bias` one value an output channel. Only a
    /// convolution made by [`Conv::forward_normed`] takes a norm.
    pub fn run<T: Real>(
        &self,
        cpu: &Cpu,
        src: Source<'_, T>,
        w: &[T],
        bias: Option<&[T]>,
        add: Add<'_, T>,
        dst: &mut [T],
        after: Option<After<'_, T>>,
        workspace: &mut [T],
    ) {
        let nothing = |_: usize, _: &[T], _: &mut [T]| ();
        let nothing = After { parts: &mut [], each: 0, with: &[], run: &nothing };
        let After { parts, each, with, run } = after.unwrap_or(nothing);
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
            let with = T::f32s(with).unwrap_or_default();
            let after = After { parts: bytemuck::cast_slice_mut(parts), each, with, run: &run };
            let bias = bias.and_then(T::f32s);
            match &self.way {
                Way::Direct(d) => d.run(cpu, src, w, bias, add, dst, after, ws),
                Way::Winograd(d) => d.run(cpu, src, w, bias, &add, dst, after, ws),
                Way::Low(d) => d.run(cpu, src, w, bias, add, dst, after, ws),
            }
            return;
        }
        if self.backward {
            naive::input_grad(&self.shape, src.x, w, add, dst);
        } else {
            naive::forward(&self.shape, &src.plain(self.shape.n), w, bias, add, dst);
        }
        let size = self.block_len().max(1);
        for (t, block) in dst.chunks(size).enumerate() {
            run(t * size, block, &mut parts[t * each..(t + 1) * each]);
        }
    }
}

#[derive(Debug)]
enum GradWay {
    Direct(DirectGrad),
    Winograd(WinogradGrad),
    Low(LowGrad),
}

/// A prepared weight gradient.
#[derive(Debug)]
pub struct ConvWeightGrad {
    shape: ConvShape,
    way: GradWay,
}

impl ConvWeightGrad {
    /// dw = the gradient of the forward pass of `shape` with respect to w.
    pub fn new(products: Products, shape: ConvShape) -> Self {
        let depth = shape.c.min(shape.k);
        let way = if winograd::pays(&shape, (shape.oh(), shape.ow()), depth, winograd::DEPTH_GRAD) {
            GradWay::Winograd(WinogradGrad::new(shape))
        } else if products == Products::Bf16 {
            GradWay::Low(LowGrad(DirectGrad::new(shape)))
        } else {
            GradWay::Direct(DirectGrad::new(shape))
        };
        Self { shape, way }
    }

    /// Elements of workspace that `run` needs.
    pub fn workspace(&self, cpu: &Cpu) -> usize {
        match &self.way {
            GradWay::Direct(d) => d.workspace(cpu),
            GradWay::Winograd(w) => w.workspace(cpu),
            GradWay::Low(l) => l.workspace(cpu),
        }
    }

    /// Computes dw from x, normalised or not, and dy.
    pub fn run<T: Real>(&self, cpu: &Cpu, x: Source<'_, T>, dy: &[T], dw: &mut [T], workspace: &mut [T]) {
        if let (Some(x), Some(dy), Some(dw), Some(ws)) =
            (x.f32s(), T::f32s(dy), T::f32s_mut(dw), T::f32s_mut(workspace))
        {
            match &self.way {
                GradWay::Direct(d) => d.run(cpu, x, dy, dw, ws),
                GradWay::Winograd(w) => w.run(cpu, x, dy, dw, ws),
                GradWay::Low(l) => l.run(cpu, x, dy, dw, ws),
            }
        } else {
            naive::weight_grad(&self.shape, &x.plain(self.shape.n), dy, dw);
        }
    }
}

#[cfg(test)]
mod tests;
