//! Statistics of batch norm folded into slots, all by one op.

use crate::error::Result;
use engine::ops::bn_running_update::{BnRunningUpdate, Fold, Tracked};
use engine::{Slot, Tape, Var};

/// The tensors of one update.
#[derive(Debug, Default)]
pub(crate) struct Folding {
    tensors: Vec<Tracked>,
    inputs: Vec<Var>,
    /// The slots that take the outputs.
    slots: Vec<Slot>,
}

impl Folding {
    /// Adds a slot, and the statistics [G, C] that are folded into it, each group's times a factor.
    pub(crate) fn add(&mut self, tape: &mut Tape, slot: Slot, stats: Var, correct: Vec<f64>) {
        self.add_with(tape, slot, stats, correct, None, None);
    }

    /// As [`Folding::add`]; with an accumulator of chain steps, which is cleared, and what statistics and accumulator lack.
    pub(crate) fn add_with(
        &mut self,
        tape: &mut Tape,
        slot: Slot,
        stats: Var,
        correct: Vec<f64>,
        accumulator: Option<Slot>,
        offset: Option<Var>,
    ) {
        self.inputs.extend([tape.read(slot), stats]);
        self.inputs.extend(accumulator.map(|a| tape.read(a)));
        self.inputs.extend(offset);
        self.slots.extend([slot].into_iter().chain(accumulator));
        self.tensors.push(Tracked { correct, offset: offset.is_some() });
    }

    /// Records the update. The order names an accumulator if and only if every tensor has one.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub(crate) fn record(self, tape: &mut Tape, momentum: f64, order: &[Fold]) -> Result<()> {
        if self.tensors.is_empty() {
            return Ok(());
        }
        let new = tape.record(BnRunningUpdate::new(momentum, order.to_vec(), self.tensors), &self.inputs)?;
        for (slot, v) in self.slots.into_iter().zip(new) {
            tape.assign(slot, v)?;
        }
        Ok(())
    }
}
