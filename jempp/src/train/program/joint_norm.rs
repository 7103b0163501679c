//! What depends on the gradients of all parameters together: the perturbation of ASAM, and clipping.
//!
//! Invariant: a perturbed weight is the value of its slot on the tape from [`Recorder::perturb`] on until the optimiser
//! assigns the next one, so the second pass is recorded like the first; it never reaches the state.

use super::Recorder;
use crate::error::Result;
use engine::Var;
use engine::ops::batch::Pack;
use engine::ops::grad_norm::{ClipByNorm, SamPerturb, SumSquares};
use engine::ops::reduce::SumAll;

impl Recorder<'_> {
    /// Moves all parameters, which are `weights`, to where ASAM takes the gradient (Kwon et al., 2021, in the form of
    /// SADA-JEM): w + ρ·w²·g/(‖w·g‖ + 1e-12), the norm over all parameters.
    pub(super) fn perturb(&mut self, weights: &[Var], gradients: &[Var]) -> Result<()> {
        let weighted = |(w, g): (&Var, &Var)| vec![*g, *w];
        let Some(norm) = self.sum_squares(weights.iter().zip(gradients).map(weighted))? else {
            return Ok(());
        };
        for ((p, w), g) in self.network.parameters.iter().zip(weights).zip(gradients) {
            if self.tape.is_zero(*g) {
                continue;
            }
            let op = SamPerturb { rho: self.config.train.sam_rho, copy: p.bf16.is_some() };
            let moved = self.tape.record(op, &[*w, *g, norm])?;
            self.tape.assign(p.slot, moved[0])?;
            if let (Some(low), Some(copied)) = (p.bf16, moved.get(1)) {
                self.tape.assign(low, *copied)?;
            }
        }
        Ok(())
    }

    /// Scales the gradients down to `train.clip_grad_norm`, if that is set.
    pub(super) fn clip(&mut self, gradients: &mut [Var]) -> Result<()> {
        let max = self.config.train.clip_grad_norm;
        if max == 0.0 {
            return Ok(());
        }
        let Some(norm) = self.sum_squares(gradients.iter().map(|g| vec![*g]))? else { return Ok(()) };
        for g in gradients {
            // The optimiser takes no gradient where there is none.
            if !self.tape.is_zero(*g) {
                *g = self.tape.one(ClipByNorm { max }, &[*g, norm])?;
            }
        }
        Ok(())
    }

    /// The sum of squares over all parameters, from the inputs of [`SumSquares`] for each, the gradient first; `None` if all
    /// gradients are zero.
    fn sum_squares(&mut self, inputs: impl Iterator<Item = Vec<Var>>) -> Result<Option<Var>> {
        let mut each = Vec::new();
        for inputs in inputs {
            if !self.tape.is_zero(inputs[0]) {
                each.push(self.tape.one(SumSquares, &inputs)?);
            }
        }
        if each.is_empty() {
            return Ok(None);
        }
        let all = self.tape.one(Pack, &each)?;
        Ok(Some(self.tape.one(SumAll { factor: 1.0 }, &[all])?))
    }
}
