//! The grouped forward pass of a training step, and its losses.

use super::{BatchSizes, Batches, Inputs, Metrics, Recorder};
use crate::config::{EnergyLoss, Plc, TrainBn};
use crate::error::Result;
use crate::network::{BnMode, Heads, Masks, Objective};
use crate::streams;
use engine::ops::batch::{ConcatRows, SliceRows};
use engine::ops::elementwise::{Axpby, Fill, Mul};
use engine::ops::label::Hits;
use engine::ops::reduce::SumAll;
use engine::ops::softmax_cross_entropy::SoftmaxCrossEntropy;
use engine::ops::softplus::Softplus;
use engine::{Spec, Var};

/// Which groups of images a program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// All.
    All,
    /// Data and labelled images.
    Ahead,
    /// Chains.
    Chains,
}

/// The index of each group of images in the train-mode pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Groups {
    pub(super) data: Option<usize>,
    pub(super) chain: Option<usize>,
    pub(super) labelled: usize,
    pub(super) conditional: Option<usize>,
}

/// The outputs of the train-mode pass over all groups of images.
pub(super) struct GroupedPass {
    pub(super) heads: Heads,
    /// Mean and variance of each group at each batch norm.
    stats: Vec<(Var, Var)>,
    groups: Groups,
    /// Images of each group.
    sizes: Vec<usize>,
    /// The outputs for data and chains with running statistics, with `train.plc = "eval"`.
    running: Option<Heads>,
}

impl GroupedPass {
    /// Mean and variance of each group at each batch norm.
    pub(super) fn stats(&self) -> &[(Var, Var)] {
        &self.stats
    }

    /// The first image of a group.
    fn start(&self, group: usize) -> usize {
        self.sizes[..group].iter().sum()
    }
}

impl Recorder<'_> {
    /// Records the forward passes and, in the first pass of the iteration, the update of the running statistics by them.
    pub(super) fn grouped_pass(
        &mut self,
        sizes: BatchSizes,
        inputs: &Inputs,
        batches: Batches,
    ) -> Result<GroupedPass> {
        let eval = self.config.train.plc == Plc::Eval;
        let (mut images, mut of_group) = (Vec::new(), Vec::new());
        let mut groups = Groups::default();
        let mut running = None;
        if let (Some(x), Some(chains)) = (batches.data, self.slots.chains.clone()) {
            if eval {
                // The published order: the chain steps move the running statistics that this pass then uses.
                self.fold_steps(&chains)?;
                let q = self.tape.read(chains.chain);
                let both = self.tape.one(ConcatRows, &[x, q])?;
                let f = self.network.forward(&mut self.tape, both, &BnMode::Running)?;
                running = Some(f.heads);
            } else {
                if self.share != Share::Chains {
                    groups.data = Some(images.len());
                    images.push(x);
                }
                if self.share != Share::Ahead {
                    groups.chain = Some(images.len());
                    images.push(self.tape.read(chains.chain));
                }
                of_group.extend(images.iter().map(|_| sizes.data));
            }
        }
        groups.labelled = images.len();
        if self.share != Share::Chains {
            images.push(batches.labelled);
            of_group.push(sizes.labelled);
        }
        if let Some(chains) = &self.slots.labelled_chains {
            groups.conditional = Some(images.len());
            images.push(self.tape.read(chains.chain));
            of_group.push(sizes.labelled);
        }
        let x = if images.len() == 1 { images[0] } else { self.tape.one(ConcatRows, &images)? };
        let mode = match self.config.train.bn {
            TrainBn::Batch => BnMode::Train(of_group.clone()),
            TrainBn::Frozen => BnMode::Running,
        };
        let seed = self.tape.read(self.slots.seed);
        let masks = inputs.step.filter(|_| self.network.config.dropout > 0.0);
        let masks = masks.map(|step| Masks { seed, step, stream: streams::DROPOUT });
        let pass = self.network.forward_with(&mut self.tape, x, &mode, masks)?;
        match (self.share, &self.slots.ahead) {
            (Share::All, _) if !self.second => self.fold_pass(&pass, groups, &of_group, eval)?,
            (Share::Chains, Some(ahead)) => self.fold_shares(&pass, sizes.data, ahead)?,
            _ => {}
        }
        Ok(GroupedPass { heads: pass.heads, stats: pass.stats, groups, sizes: of_group, running })
    }

    /// Records the forward passes and the losses at the current parameters.
    pub(super) fn losses(&mut self, sizes: BatchSizes, inputs: &Inputs, batches: Batches) -> Result<Metrics> {
        self.loss = None;
        let pass = self.grouped_pass(sizes, inputs, batches)?;
        let both = [(0, -1.0), (sizes.data, 1.0)];
        let data = self.data_loss(&both, sizes, pass.running.unwrap_or(pass.heads), inputs.p_x_ramp)?;
        let labelled = pass.start(pass.groups.labelled);
        let (ce, accuracy, heads) = self.classification(pass.heads, labelled, sizes, inputs)?;
        let weights = &self.config.train;
        if let (Some(g), Some(labels)) = (pass.groups.conditional, inputs.chain_labels) {
            let chain = self.heads(pass.heads, pass.start(g), sizes.labelled)?;
            let f = Objective::Label(labels).record(&mut self.tape, chain)?;
            let f = self.mean(f)?;
            self.add_loss(weights.p_x_y_weight, f)?;
            let f = Objective::Label(inputs.labels).record(&mut self.tape, heads)?;
            let f = self.mean(f)?;
            self.add_loss(-weights.p_x_y_weight, f)?;
        }
        let (f_data, f_chain) = (data.first().copied(), data.get(1).copied());
        Ok(Metrics { loss: self.total()?, ce, accuracy, f_data, f_chain })
    }

    /// The loss so far.
    pub(super) fn total(&mut self) -> Result<Var> {
        match self.loss {
            Some(l) => Ok(l),
            None => Ok(self.tape.one(Fill { spec: Spec::new(&[], self.network.dtype), value: 0.0 }, &[])?),
        }
    }

    /// Adds the cross-entropy of the labelled images, which begin at image `start`, to the loss; it, the accuracy, and their
    /// outputs.
    pub(super) fn classification(
        &mut self,
        heads: Heads,
        start: usize,
        sizes: BatchSizes,
        inputs: &Inputs,
    ) -> Result<(Var, Var, Heads)> {
        let heads = self.heads(heads, start, sizes.labelled)?;
        let each = self.tape.one(SoftmaxCrossEntropy, &[heads.logits, inputs.labels])?;
        let ce = self.mean(each)?;
        self.add_loss(self.config.train.p_y_given_x_weight, ce)?;
        let hits = self.tape.one(Hits, &[heads.logits, inputs.labels])?;
        Ok((ce, self.mean(hits)?, heads))
    }

    /// Adds the terms of log p(x) and of `train.energy_l2` to the loss; `ramp` is a factor of the former. `groups`: the first
    /// image of data (−1) and of chains (1) in `heads`. Returns the mean unnormalised log p(x) of each.
    pub(super) fn data_loss(
        &mut self,
        groups: &[(usize, f64)],
        sizes: BatchSizes,
        heads: Heads,
        ramp: Option<Var>,
    ) -> Result<Vec<Var>> {
        if self.slots.chains.is_none() {
            return Ok(Vec::new());
        }
        let t = &self.config.train;
        // As in the published code of SADA-JEM, the penalty is not part of the second pass.
        let l2 = if self.second { 0.0 } else { t.energy_l2 };
        let mut means = Vec::new();
        for &(start, sign) in groups {
            let rows = self.heads(heads, start, sizes.data)?;
            let f = Objective::LogDensity.record(&mut self.tape, rows)?;
            let mean = self.mean(f)?;
            means.push(mean);
            let (weight, term) = match t.energy_loss {
                EnergyLoss::Cd => (sign, mean),
                EnergyLoss::Bce => {
                    // −log σ(f) of data, −log σ(−f) of chains.
                    let z = self.tape.one(Axpby { a: sign, b: 0.0 }, &[f])?;
                    let each = self.tape.one(Softplus, &[z])?;
                    (1.0, self.mean(each)?)
                }
            };
            let term = match ramp {
                Some(ramp) => self.tape.one(Mul, &[term, ramp])?,
                None => term,
            };
            self.add_loss(weight * t.p_x_weight, term)?;
            if l2 > 0.0 {
                let squares = self.tape.one(Mul, &[f, f])?;
                let mean = self.mean(squares)?;
                self.add_loss(l2, mean)?;
            }
        }
        Ok(means)
    }

    /// `rows` rows of `x` from row `start` on.
    fn rows(&mut self, x: Var, start: usize, rows: usize) -> Result<Var> {
        if start == 0 && self.tape.spec(x)?.first() == rows {
            return Ok(x);
        }
        Ok(self.tape.one(SliceRows { start, rows }, &[x])?)
    }

    /// The outputs of `rows` images from image `start` on.
    fn heads(&mut self, h: Heads, start: usize, rows: usize) -> Result<Heads> {
        let logits = self.rows(h.logits, start, rows)?;
        let density = if h.density == h.logits { logits } else { self.rows(h.density, start, rows)? };
        Ok(Heads { logits, density })
    }

    fn mean(&mut self, x: Var) -> Result<Var> {
        let n = self.tape.spec(x)?.len();
        Ok(self.tape.one(SumAll { factor: 1.0 / n as f64 }, &[x])?)
    }

    fn add_loss(&mut self, weight: f64, x: Var) -> Result<()> {
        if weight != 0.0 {
            self.loss = Some(match self.loss {
                None => self.tape.one(Axpby { a: weight, b: 0.0 }, &[x])?,
                Some(l) => self.tape.one(Axpby { a: 1.0, b: weight }, &[l, x])?,
            });
        }
        Ok(())
    }
}
