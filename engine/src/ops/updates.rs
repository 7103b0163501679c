//! Optimiser steps of many tensors at once: the order of their inputs and outputs.

use crate::op::{Io, MemoryError, check_inputs, ensure};
use crate::spec::{DType, Spec};
use kernels::memory::Span;
use kernels::ops::sgd::cuda::Tensor;

/// A tensor that an optimiser step updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Updated {
    /// Whether there is a gradient; else it is zero.
    pub gradient: bool,
    /// Whether there is a second term of the gradient, which is added to the first.
    pub more: bool,
    /// Whether a bf16 copy of the new weight is wanted.
    pub copy: bool,
}

impl Updated {
    /// Inputs that are gradients.
    fn gradients(self) -> usize {
        usize::from(self.gradient) + usize::from(self.more)
    }
}

/// The inputs are those of each tensor, `state` of them (the weight and what else is updated) and the gradient, then others
/// that all share; the outputs those of each tensor, `state` of them and the copy.
#[derive(Clone, Debug)]
pub(super) struct Updates {
    pub(super) tensors: Vec<Updated>,
    state: usize,
    pub(super) aliases: Vec<(usize, usize)>,
}

impl Updates {
    pub(super) fn new(tensors: Vec<Updated>, state: usize) -> Self {
        let mut all = Self { tensors, state, aliases: Vec::new() };
        all.aliases = all.places().flat_map(|(_, i, o)| (0..state).map(move |k| (o + k, i + k))).collect();
        all
    }

    /// Each tensor with its first input and its first output.
    pub(super) fn places(&self) -> impl Iterator<Item = (Updated, usize, usize)> {
        let state = self.state;
        self.tensors.iter().scan((0, 0), move |(i, o), t| {
            let place = (*t, *i, *o);
            *i += state + t.gradients();
            *o += state + usize::from(t.copy);
            Some(place)
        })
    }

    /// Inputs of tensors.
    pub(super) fn inputs(&self) -> usize {
        self.tensors.iter().map(|t| self.state + t.gradients()).sum()
    }

    /// The outputs from the inputs, of which `ints` are int32 and after those of the tensors.
    pub(super) fn infer(&self, x: &[Spec], more: usize, ints: &[usize]) -> Result<Vec<Spec>, String> {
        let n = self.inputs() + more;
        check_inputs(x, n..=n, ints)?;
        let mut out = Vec::new();
        for (t, i, _) in self.places() {
            ensure!(t.gradient || !t.more, "a second term of a gradient without the first");
            let same = &x[i..i + self.state + t.gradients()];
            ensure!(same.iter().all(|s| *s == x[i]), "weight, moments and gradient differ: {same:?}");
            ensure!(!t.copy || x[i].dtype == DType::F32, "the bf16 copy needs f32 weights, not {}", x[i]);
            out.extend(vec![x[i]; self.state]);
            out.extend(t.copy.then(|| x[i].with_dtype(DType::BF16)));
        }
        Ok(out)
    }

    /// Values of all weights.
    pub(super) fn len(&self, x: &[Spec]) -> u64 {
        self.places().map(|(_, i, _)| x[i].len() as u64).sum()
    }

    /// What the CUDA kernel needs to know of each tensor.
    pub(super) fn on_gpu(&self, x: &[Spec]) -> Vec<Tensor> {
        let of = |(t, i, _): (Updated, usize, usize)| Tensor {
            len: x[i].len(),
            gradient: t.gradient,
            more: t.more,
            copy: t.copy,
        };
        self.places().map(of).collect()
    }

    /// The spans of all tensors: of each its inputs, then its outputs.
    pub(super) fn spans<'m>(&self, io: &Io<'m>) -> Result<Vec<Span<'m>>, MemoryError> {
        let mut all = Vec::new();
        for (t, i, o) in self.places() {
            for k in 0..self.state + t.gradients() {
                all.push(io.gpu_input(i + k)?);
            }
            for k in 0..self.state + usize::from(t.copy) {
                all.push(io.gpu_output(o + k)?);
            }
        }
        Ok(all)
    }
}
