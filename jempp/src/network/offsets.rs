//! What the means of batch norms lack where convolutions leave out their biases.
//!
//! In train mode each batch norm subtracts the mean of its input, so a constant per channel changes nothing after it. Its input
//! is a convolution's output or the residual stream, whose other uses are 1×1 convolutions back into it, which turn constants
//! into constants. So biases show in means alone, each as a constant that depends on the parameters only.

use super::Network;
use crate::config::NormKind;
use crate::error::Result;
use engine::ops::bias_offset::BiasOffset;
use engine::{Tape, Var};

impl Network {
    /// Whether passes with batch norm in train mode leave out biases.
    pub(super) fn leaves_out_biases(&self) -> bool {
        self.biases_apart && self.config.norm == NormKind::Batch
    }

    /// For each of [`Network::norms`] the values `[C]` that are to be added to its mean in train mode to have that of the
    /// network with all biases; `None` where it lacks nothing. `dropout`: whether the pass has dropout, which a bias comes
    /// before.
    ///
    /// # Errors
    /// Those of recording.
    pub(crate) fn offsets(&self, tape: &mut Tape, dropout: bool) -> Result<Vec<Option<Var>>> {
        if !self.leaves_out_biases() {
            return Ok(vec![None; self.norms.len()]);
        }
        let mut all = Vec::with_capacity(self.norms.len());
        let mut residual = self.used(tape, self.conv1.bias);
        for b in &self.blocks {
            let within = (!dropout).then(|| self.used(tape, b.conv1.bias));
            all.extend([Some(residual), within]);
            let shortcut = b.shortcut.map(|c| [c.weight, c.bias].map(|p| self.used(tape, p)));
            let op = BiasOffset { shortcut: shortcut.is_some() };
            let bias = self.used(tape, b.conv2.bias);
            let inputs = [residual, bias].into_iter().chain(shortcut.into_iter().flatten());
            residual = tape.one(op, &inputs.collect::<Vec<_>>())?;
        }
        all.push(Some(residual));
        Ok(all)
    }
}
