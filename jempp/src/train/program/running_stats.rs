//! The running statistics of batch norm over a training step.

use super::losses::Groups;
use super::{ChainSlots, Recorder};
use crate::config::Plc;
use crate::error::Result;
use crate::network::Forward;
use crate::sampling::unbias;
use engine::ops::bn_running_update::{BnRunningUpdate, Fold};
use engine::ops::elementwise::Fill;
use engine::{Slot, Var};

impl Recorder<'_> {
    /// Folds the statistics of the steps of `chains` alone into the running statistics.
    pub(super) fn fold_steps(&mut self, chains: &ChainSlots) -> Result<()> {
        for (norm, acc) in self.network.norms.iter().zip(&chains.accumulators) {
            for (slot, acc) in [(norm.mean, acc.mean), (norm.var, acc.var)] {
                let rows = slot.spec.with_shape(&[1, slot.spec.len()]);
                let none = self.tape.one(Fill { spec: rows, value: 0.0 }, &[])?;
                self.fold(slot, none, &[self.steps()], vec![1.0], Some(acc))?;
            }
        }
        Ok(())
    }

    /// The accumulated chain steps of a round, as one fold.
    fn steps(&self) -> Fold {
        Fold::Steps(self.config.sampler.outer_steps as u32)
    }

    /// Folds `stats` and the accumulator `acc` into the running statistics in `slot`, in the given order, and clears the
    /// accumulator. `correct` makes the variance of each group unbiased.
    fn fold(
        &mut self,
        slot: Slot,
        stats: Var,
        order: &[Fold],
        correct: Vec<f64>,
        acc: Option<Slot>,
    ) -> Result<()> {
        let op =
            BnRunningUpdate { momentum: self.network.config.bn_momentum, order: order.to_vec(), correct };
        let old = self.tape.read(slot);
        let mut inputs = vec![old, stats];
        inputs.extend(acc.map(|a| self.tape.read(a)));
        let new = self.tape.one(op, &inputs)?;
        self.tape.assign(slot, new)?;
        if let Some(a) = acc {
            let zero = self.tape.one(Fill { spec: a.spec, value: 0.0 }, &[])?;
            self.tape.assign(a, zero)?;
        }
        Ok(())
    }

    /// Folds the statistics of the whole iteration into the running statistics, in the published order: data, the chain
    /// steps, the chains, the labelled images (`alltrain2`: the chain steps first), then the conditional chains' steps,
    /// the conditional chains, and the labelled images once more.
    pub(super) fn fold_pass(&mut self, pass: &Forward, g: Groups, sizes: &[usize], eval: bool) -> Result<()> {
        let group = |g: Option<usize>| g.map(Fold::Group);
        let steps = (self.slots.chains.is_some() && !eval).then(|| self.steps());
        let first: Vec<Fold> = match self.config.train.plc {
            Plc::Alltrain2 => [steps, group(g.data)].into_iter().flatten().collect(),
            _ => [group(g.data), steps].into_iter().flatten().collect(),
        };
        let first: Vec<Fold> =
            first.into_iter().chain(group(g.chain)).chain([Fold::Group(g.labelled)]).collect();
        let chains = if eval { None } else { self.slots.chains.clone() };
        for (i, (mean, var)) in pass.stats.iter().enumerate() {
            let norm = &self.network.norms[i];
            let pixels = pass.pixels(&self.tape, i)?;
            let rows: Vec<usize> = sizes.iter().map(|n| n * pixels).collect();
            let ones = vec![1.0; sizes.len()];
            for (slot, stats, correct, of_mean) in
                [(norm.mean, *mean, ones, true), (norm.var, *var, unbias(&rows), false)]
            {
                let pick =
                    |c: &ChainSlots| if of_mean { c.accumulators[i].mean } else { c.accumulators[i].var };
                self.fold(slot, stats, &first, correct.clone(), chains.as_ref().map(pick))?;
                if let (Some(q), Some(chains)) = (g.conditional, self.slots.labelled_chains.clone()) {
                    let order = [self.steps(), Fold::Group(q), Fold::Group(g.labelled)];
                    self.fold(slot, stats, &order, correct, Some(pick(&chains)))?;
                }
            }
        }
        Ok(())
    }
}
