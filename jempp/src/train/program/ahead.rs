//! The share of an iteration that does not depend on the chains, data and labelled images, as a program of its own, which can
//! run beside the chain steps. It hands its gradients, statistics and metrics on in slots; the training program then has the
//! chains alone and takes these along.
//!
//! Invariant: together both compute what the one program for all groups computes, up to the order in which gradients and losses
//! are added. Nothing of it outlives an iteration.

use super::losses::Share;
use super::{BatchSizes, Inputs, Metrics, Program, Recorder, TrainSlots};
use crate::config::{Config, Optimizer, Plc};
use crate::error::Result;
use crate::network::{Forward, Network};
use crate::sampling::{Folding, TrainingImages, unbias};
use crate::train::Options;
use engine::ops::bn_running_update::Fold;
use engine::ops::elementwise::Axpby;
use engine::{Device, Plan, Slot, Spec, State, Tape, Var};

/// What the names of its slots begin with.
pub(in crate::train) const PREFIX: &str = "ahead.";

/// The groups of its pass.
const DATA: usize = 0;
const LABELLED: usize = 1;

/// What it hands on.
#[derive(Clone, Debug)]
pub(in crate::train) struct AheadSlots {
    /// Gradients of all parameters, in order.
    gradients: Vec<Slot>,
    /// Mean and variance of both groups at each of the network's batch norms, `[2, C]`; none if statistics are frozen.
    stats: Vec<[Slot; 2]>,
    loss: Slot,
    ce: Slot,
    accuracy: Slot,
    f_data: Slot,
}

/// The program.
#[derive(Debug)]
pub(in crate::train) struct Ahead {
    pub(in crate::train) plan: Plan,
    pub(in crate::train) inputs: Inputs,
}

/// Whether an iteration falls into two shares: that is wanted, the chains are trained, and nothing depends on all gradients together, on where
/// an image stands in the batch, or on the chain steps before the data.
pub(in crate::train) fn divides(config: &Config, device: &Device, options: &Options) -> bool {
    let wanted = options.branches.unwrap_or(device.branches());
    let t = &config.train;
    let chains = t.p_x_weight != 0.0 && t.p_x_y_weight == 0.0 && t.plc == Plc::Alltrain1;
    let separate = t.sam_rho == 0.0 && t.clip_grad_norm == 0.0 && config.model.dropout == 0.0;
    wanted && chains && separate && t.optimizer == Optimizer::Sgd && !options.keep_gradients
}

impl AheadSlots {
    /// Adds the slots.
    ///
    /// # Errors
    /// If there is no memory.
    pub(in crate::train) fn new(state: &mut State, network: &Network, moving: bool) -> Result<Self> {
        let mut add = |name: &str, spec| state.add(&format!("{PREFIX}{name}"), spec);
        let gradients =
            network.parameters.iter().map(|p| add(&p.name, p.slot.spec)).collect::<Result<_, _>>()?;
        let norms = network.norms.iter().filter(|_| moving);
        let stats = norms.map(|n| {
            let of = n.mean.spec.with_shape(&[2, n.mean.spec.len()]);
            Ok([add(&format!("{}.mean", n.name), of)?, add(&format!("{}.var", n.name), of)?])
        });
        let stats = stats.collect::<Result<_>>()?;
        let mut one = |name| add(name, Spec::new(&[], network.dtype));
        let (loss, ce) = (one("loss")?, one("ce")?);
        Ok(Self { gradients, stats, loss, ce, accuracy: one("accuracy")?, f_data: one("f_data")? })
    }
}

impl Ahead {
    /// Records and plans the program; also which gradients it has.
    ///
    /// # Errors
    /// As [`Program::new`].
    pub(super) fn new(
        device: &Device,
        network: &Network,
        config: &Config,
        slots: &TrainSlots,
        (training, sizes): (Option<TrainingImages>, BatchSizes),
        to: &AheadSlots,
    ) -> Result<(Self, Vec<bool>)> {
        let share = Share::Ahead;
        let mut r = Recorder { tape: Tape::new(), network, config, slots, loss: None, second: false, share };
        let inputs = r.inputs(training.is_some(), sizes);
        let batches = r.batches(training, &inputs)?;
        let pass = r.grouped_pass(sizes, &inputs, batches)?;
        let f_data = r.data_loss(&[(DATA * sizes.data, -1.0)], sizes, pass.heads, inputs.p_x_ramp)?;
        let (ce, accuracy, _) = r.classification(pass.heads, sizes.data, sizes, &inputs)?;
        let loss = r.total()?;
        let gradients = r.gradients(loss)?;
        let mut has = Vec::new();
        for (slot, g) in to.gradients.iter().zip(gradients) {
            has.push(!r.tape.is_zero(g));
            if !r.tape.is_zero(g) {
                r.tape.assign(*slot, g)?;
            }
        }
        for (slots, (mean, var)) in to.stats.iter().zip(pass.stats()) {
            r.tape.assign(slots[0], *mean)?;
            r.tape.assign(slots[1], *var)?;
        }
        let metrics = [(to.loss, Some(loss)), (to.ce, Some(ce)), (to.accuracy, Some(accuracy))];
        for (slot, v) in metrics.into_iter().chain([(to.f_data, f_data.first().copied())]) {
            if let Some(v) = v {
                r.tape.assign(slot, v)?;
            }
        }
        Ok((Self { plan: r.tape.plan(device, &[])?, inputs }, has))
    }
}

impl Program {
    /// Records the losses of the chains, after the program for the others has run; also the gradients that it has handed on,
    /// which are `has`.
    pub(super) fn chains(
        r: &mut Recorder<'_>,
        sizes: BatchSizes,
        inputs: &Inputs,
        from: &AheadSlots,
        has: &[bool],
    ) -> Result<(Metrics, Var, Vec<Option<Var>>)> {
        let batches = super::Batches { data: inputs.data, labelled: inputs.labelled };
        let pass = r.grouped_pass(sizes, inputs, batches)?;
        let f_chain = r.data_loss(&[(0, 1.0)], sizes, pass.heads, inputs.p_x_ramp)?.first().copied();
        let own = r.total()?;
        let [loss, ce, accuracy, f_data] =
            [from.loss, from.ce, from.accuracy, from.f_data].map(|slot| r.tape.read(slot));
        let loss = r.tape.one(Axpby { a: 1.0, b: 1.0 }, &[loss, own])?;
        let more =
            from.gradients.iter().zip(has).map(|(slot, has)| has.then(|| r.tape.read(*slot))).collect();
        Ok((Metrics { loss, ce, accuracy, f_data: Some(f_data), f_chain }, own, more))
    }
}

impl Recorder<'_> {
    /// Folds the statistics of both shares into the running statistics in the published order: data, the chain steps, the
    /// chains, the labelled images. `pass` is that of the chains.
    pub(super) fn fold_shares(&mut self, pass: &Forward, chains: usize, from: &AheadSlots) -> Result<()> {
        if from.stats.is_empty() {
            return Ok(());
        }
        let sizes = [self.config.train.batch_size, crate::train::labelled_size(self.config)];
        let offsets = self.offsets()?;
        self.fold_handed_on(pass, &sizes, from, (DATA, &offsets))?;
        let accumulators = self.slots.chains.as_ref().and_then(|c| c.accumulators.clone());
        let order = [self.steps(), Fold::Group(0)];
        self.fold_with(pass, &[chains], &order, accumulators, &offsets)?;
        self.fold_handed_on(pass, &sizes, from, (LABELLED, &offsets))
    }

    /// Folds the statistics of one group that the other program has handed on, whose means lack `offsets`.
    fn fold_handed_on(
        &mut self,
        pass: &Forward,
        sizes: &[usize],
        from: &AheadSlots,
        (group, offsets): (usize, &[Option<Var>]),
    ) -> Result<()> {
        let mut fold = Folding::default();
        for (i, norm) in self.network.norms.iter().enumerate() {
            let pixels = pass.pixels(&self.tape, i)?;
            let rows: Vec<usize> = sizes.iter().map(|n| n * pixels).collect();
            let [mean, var] = from.stats[i].map(|slot| self.tape.read(slot));
            let (t, ones) = (&mut self.tape, vec![1.0; sizes.len()]);
            fold.add_with(t, norm.mean, mean, ones, None, offsets[i]);
            fold.add_with(t, norm.var, var, unbias(&rows), None, None);
        }
        fold.record(&mut self.tape, self.network.config.bn_momentum, &[Fold::Group(group)])
    }
}
