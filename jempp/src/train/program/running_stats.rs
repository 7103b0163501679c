//! The running statistics of batch norm over a training step.

use super::losses::Groups;
use super::{ChainSlots, Recorder};
use crate::config::Plc;
use crate::error::Result;
use crate::network::Forward;
use crate::sampling::{Accumulator, Folding, unbias};
use engine::Var;
use engine::ops::bn_running_update::Fold;
use engine::ops::elementwise::Fill;

impl Recorder<'_> {
    /// Folds the statistics of the steps of `chains` alone into the running statistics.
    pub(super) fn fold_steps(&mut self, chains: &ChainSlots) -> Result<()> {
        let offsets = self.offsets()?;
        let mut fold = Folding::default();
        for (i, (norm, acc)) in
            self.network.norms.iter().zip(chains.accumulators.iter().flatten()).enumerate()
        {
            for (slot, acc, offset) in [(norm.mean, acc.mean, offsets[i]), (norm.var, acc.var, None)] {
                let rows = slot.spec.with_shape(&[1, slot.spec.len()]);
                let none = self.tape.one(Fill { spec: rows, value: 0.0 }, &[])?;
                fold.add_with(&mut self.tape, slot, none, vec![1.0], Some(acc), offset);
            }
        }
        let order = [self.steps()];
        fold.record(&mut self.tape, self.network.config.bn_momentum, &order)
    }

    /// What the means of train-mode passes lack: those of the chain steps and of this program.
    pub(super) fn offsets(&mut self) -> Result<Vec<Option<Var>>> {
        self.network.offsets(&mut self.tape, self.network.config.dropout > 0.0)
    }

    /// The accumulated chain steps of a round, as one fold.
    pub(super) fn steps(&self) -> Fold {
        Fold::Steps(self.config.sampler.outer_steps as u32)
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
        let chains = if eval { None } else { self.slots.chains.as_ref() };
        self.fold_all(pass, sizes, &first, chains.and_then(|c| c.accumulators.clone()))?;
        if let (Some(q), Some(chains)) = (g.conditional, &self.slots.labelled_chains) {
            let order = [self.steps(), Fold::Group(q), Fold::Group(g.labelled)];
            self.fold_all(pass, sizes, &order, chains.accumulators.clone())?;
        }
        Ok(())
    }

    /// Folds the statistics of a pass, and the accumulators of chain steps, into the running statistics of all norms in the
    /// given order, and clears the accumulators.
    fn fold_all(
        &mut self,
        pass: &Forward,
        sizes: &[usize],
        order: &[Fold],
        accumulators: Option<Vec<Accumulator>>,
    ) -> Result<()> {
        let offsets = self.offsets()?;
        self.fold_with(pass, sizes, order, accumulators, &offsets)
    }

    /// As [`Recorder::fold_all`], with what the means lack.
    pub(super) fn fold_with(
        &mut self,
        pass: &Forward,
        sizes: &[usize],
        order: &[Fold],
        accumulators: Option<Vec<Accumulator>>,
        offsets: &[Option<Var>],
    ) -> Result<()> {
        let mut fold = Folding::default();
        for (i, (mean, var)) in pass.stats.iter().enumerate() {
            let norm = &self.network.norms[i];
            let pixels = pass.pixels(&self.tape, i)?;
            let rows: Vec<usize> = sizes.iter().map(|n| n * pixels).collect();
            let acc = accumulators.as_ref().map(|all| all[i]);
            let (t, ones) = (&mut self.tape, vec![1.0; sizes.len()]);
            fold.add_with(t, norm.mean, *mean, ones, acc.map(|a| a.mean), offsets[i]);
            fold.add_with(t, norm.var, *var, unbias(&rows), acc.map(|a| a.var), None);
        }
        fold.record(&mut self.tape, self.network.config.bn_momentum, order)
    }
}
