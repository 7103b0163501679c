//! The training step as one program: grouped forward pass, losses, gradients, update, running statistics, buffer.
//!
//! Invariant: running statistics move in the order of the published code, whatever order the passes run in here.

use super::update;
use crate::config::{Config, DataConfig, Plc};
use crate::error::Result;
use crate::network::{BnMode, Forward, Heads, Masks, Network, Objective};
use crate::sampling::{Accumulator, Source, unbias};
use crate::streams;
use engine::ops::augment::Args;
use engine::ops::batch::{ConcatRows, Pack, SliceRows};
use engine::ops::bn_running_update::{BnRunningUpdate, Fold};
use engine::ops::cast::Cast;
use engine::ops::elementwise::{Axpby, Fill, Mul};
use engine::ops::label::Hits;
use engine::ops::reduce::SumAll;
use engine::ops::replay::ScatterRows;
use engine::ops::softmax_cross_entropy::SoftmaxCrossEntropy;
use engine::rng::Stream;
use engine::{Device, Plan, Slot, Spec, Tape, Var, grad};

/// Chains of one kind: where they live and what their steps accumulated.
#[derive(Clone, Debug)]
pub struct Chains {
    /// n×H×W×C.
    pub chain: Slot,
    /// One a batch norm.
    pub accumulators: Vec<Accumulator>,
}

/// The slots that the program works on.
#[derive(Clone, Debug)]
pub struct Slots {
    /// What the update keeps.
    pub update: update::Slots,
    /// Chains of log p(x), if that is trained.
    pub chains: Option<Chains>,
    /// Chains of log p(x, y), if that is trained.
    pub labelled_chains: Option<Chains>,
    /// The replay buffer, if chains go back there.
    pub buffer: Option<Slot>,
    /// Seed words, `i32[2]`.
    pub seed: Slot,
}

/// Host inputs of the program.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// n×H×W×C, or rows of the training images, `i32[n]`.
    pub data: Option<Var>,
    /// m×H×W×C, or rows of the training images, `i32[m]`.
    pub labelled: Var,
    /// `i32[m]`.
    pub labels: Var,
    /// The iteration, `i32[1]`, where images are picked or dropout is.
    pub step: Option<Var>,
    /// `i32[m]`: the labels that the conditional chains followed.
    pub chain_labels: Option<Var>,
    /// One value.
    pub lr: Var,
    /// `i32[n]`: buffer rows of the chains.
    pub index: Option<Var>,
    /// `i32[m]`: buffer rows of the conditional chains.
    pub labelled_index: Option<Var>,
}

/// The images of the batches on the tape.
#[derive(Clone, Copy, Debug)]
struct Batches {
    data: Option<Var>,
    labelled: Var,
}

/// What an iteration measures.
#[derive(Clone, Copy, Debug)]
struct Measures {
    loss: Var,
    ce: Var,
    accuracy: Var,
    f_data: Option<Var>,
    f_chain: Option<Var>,
}

/// The planned program.
#[derive(Debug)]
pub struct Program {
    /// The plan.
    pub plan: Plan,
    /// Its inputs.
    pub inputs: Inputs,
    /// One vector: the loss, mean cross-entropy and accuracy of the labelled images and, where log p(x) is trained, the
    /// mean unnormalised log p(x) of the data and of the chains.
    pub metrics: Var,
    /// Gradients of all parameters, in order, if asked for.
    pub gradients: Vec<Var>,
}

/// Batches of the groups.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Images for p(x), and as many chains.
    pub data: usize,
    /// Labelled images, and as many conditional chains.
    pub labelled: usize,
}

/// Which group of the train-mode pass is which.
#[derive(Clone, Copy, Debug, Default)]
struct Groups {
    data: Option<usize>,
    chain: Option<usize>,
    labelled: usize,
    conditional: Option<usize>,
}

struct Recorder<'a> {
    tape: Tape,
    network: &'a Network,
    config: &'a Config,
    slots: &'a Slots,
    loss: Option<Var>,
}

/// What is done to the images for p(x), or to the labelled ones, and with which randomness.
pub(super) fn augmentation(d: &DataConfig, of_data: bool) -> (Args, Stream) {
    let all = Args { pad: d.pad, flip: d.flip, sigma: d.sigma as f32 };
    match of_data {
        true => (if d.p_x_augment { all } else { Args::default() }, streams::AUGMENT_UNLABELLED),
        false => (all, streams::AUGMENT_LABELLED),
    }
}

impl Program {
    /// Records and plans the program; with `keep_gradients` they can be read after a run. With a `source` the host names
    /// rows of its images, which are augmented on the way; else it gives the images.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(
        device: &Device,
        network: &Network,
        config: &Config,
        slots: &Slots,
        (source, sizes): (Option<Source>, Sizes),
        keep_gradients: bool,
    ) -> Result<Self> {
        let mut r = Recorder { tape: Tape::new(), network, config, slots, loss: None };
        let inputs = r.inputs(source.is_some(), sizes);
        let batches = r.batches(source, &inputs)?;
        let m = r.losses(sizes, &inputs, batches)?;
        let gradients = r.update(m.loss, inputs.lr)?;
        r.write_buffer(&inputs)?;
        let all = [Some(m.loss), Some(m.ce), Some(m.accuracy), m.f_data, m.f_chain];
        let metrics = r.tape.one(Pack, &all.into_iter().flatten().collect::<Vec<_>>())?;
        let mut read = vec![metrics];
        if keep_gradients {
            read.extend(&gradients);
        }
        let plan = r.tape.plan(device, &read)?;
        Ok(Self { plan, inputs, metrics, gradients })
    }
}

impl Recorder<'_> {
    fn inputs(&mut self, picked: bool, sizes: Sizes) -> Inputs {
        let (t, n) = (&mut self.tape, self.network);
        let px = self.slots.chains.is_some();
        let pxy = self.slots.labelled_chains.is_some();
        let buffer = self.slots.buffer.is_some();
        let rows = |k| Spec::i32(&[k]);
        let images = |k| if picked { rows(k) } else { n.images(k) };
        Inputs {
            data: px.then(|| t.input("x_data", images(sizes.data))),
            labelled: t.input("x_labelled", images(sizes.labelled)),
            step: (picked || n.config.dropout > 0.0).then(|| t.input("step", rows(1))),
            labels: t.input("labels", rows(sizes.labelled)),
            chain_labels: pxy.then(|| t.input("chain_labels", rows(sizes.labelled))),
            lr: t.input("lr", Spec::new(&[], n.dtype)),
            index: (px && buffer).then(|| t.input("index", rows(sizes.data))),
            labelled_index: (pxy && buffer).then(|| t.input("labelled_index", rows(sizes.labelled))),
        }
    }

    /// The batches, out of the training images where these are picked.
    fn batches(&mut self, source: Option<Source>, inputs: &Inputs) -> Result<Batches> {
        let (Some(source), Some(step)) = (source, inputs.step) else {
            return Ok(Batches { data: inputs.data, labelled: inputs.labelled });
        };
        let mut batch = |of_data, rows| {
            let (args, stream) = augmentation(&self.config.data, of_data);
            source.batch(&mut self.tape, args, stream, rows, step)
        };
        let data = inputs.data.map(|rows| batch(true, rows)).transpose()?;
        Ok(Batches { data, labelled: batch(false, inputs.labelled)? })
    }

    /// Forward passes and losses; running statistics on the way.
    fn losses(&mut self, sizes: Sizes, inputs: &Inputs, batches: Batches) -> Result<Measures> {
        let eval = self.config.train.plc == Plc::Eval;
        let mut parts = Vec::new();
        let mut groups = Groups::default();
        let mut running = None;
        if let (Some(x), Some(chains)) = (batches.data, self.slots.chains.clone()) {
            let q = self.tape.read(chains.chain);
            if eval {
                // The published order: the chain steps move the running statistics that this pass then uses.
                self.fold_steps(&chains)?;
                let both = self.tape.one(ConcatRows, &[x, q])?;
                let f = self.network.forward(&mut self.tape, both, &BnMode::Running)?;
                running = Some(f.heads);
            } else {
                groups.data = Some(parts.len());
                groups.chain = Some(parts.len() + 1);
                parts.extend([(x, sizes.data), (q, sizes.data)]);
            }
        }
        groups.labelled = parts.len();
        parts.push((batches.labelled, sizes.labelled));
        if let Some(chains) = &self.slots.labelled_chains {
            groups.conditional = Some(parts.len());
            let q = self.tape.read(chains.chain);
            parts.push((q, sizes.labelled));
        }
        let vars: Vec<Var> = parts.iter().map(|p| p.0).collect();
        let x = if vars.len() == 1 { vars[0] } else { self.tape.one(ConcatRows, &vars)? };
        let mode = BnMode::Train(parts.iter().map(|p| p.1).collect());
        let seed = self.tape.read(self.slots.seed);
        let masks = inputs.step.filter(|_| self.network.config.dropout > 0.0);
        let masks = masks.map(|step| Masks { seed, step, stream: streams::DROPOUT });
        let pass = self.network.forward_with(&mut self.tape, x, &mode, masks)?;
        self.fold_pass(&pass, groups, &parts, eval)?;

        let start = |g: usize| parts[..g].iter().map(|p| p.1).sum::<usize>();
        let data = self.data_loss(sizes, running.unwrap_or(pass.heads), start(0))?;
        let heads = self.heads(pass.heads, start(groups.labelled), sizes.labelled)?;
        let lab = heads.logits;
        let weights = &self.config.train;
        let each = self.tape.one(SoftmaxCrossEntropy, &[lab, inputs.labels])?;
        let ce = self.mean(each)?;
        self.add_loss(weights.p_y_given_x_weight, ce)?;
        let hits = self.tape.one(Hits, &[lab, inputs.labels])?;
        let accuracy = self.mean(hits)?;
        if let (Some(g), Some(labels)) = (groups.conditional, inputs.chain_labels) {
            let chain = self.heads(pass.heads, start(g), sizes.labelled)?;
            let f = Objective::Label(labels).record(&mut self.tape, chain)?;
            let f = self.mean(f)?;
            self.add_loss(weights.p_x_y_weight, f)?;
            let f = Objective::Label(inputs.labels).record(&mut self.tape, heads)?;
            let f = self.mean(f)?;
            self.add_loss(-weights.p_x_y_weight, f)?;
        }
        let loss = match self.loss {
            Some(l) => l,
            None => self.tape.one(Fill { spec: Spec::new(&[], self.network.dtype), value: 0.0 }, &[])?,
        };
        let (f_data, f_chain) = data.unzip();
        Ok(Measures { loss, ce, accuracy, f_data, f_chain })
    }

    /// The log p(x) term and the energy term; mean energies of data and chains.
    fn data_loss(&mut self, sizes: Sizes, heads: Heads, start: usize) -> Result<Option<(Var, Var)>> {
        if self.slots.chains.is_none() {
            return Ok(None);
        }
        let (w, l2) = (self.config.train.p_x_weight, self.config.train.energy_l2);
        let mut means = Vec::new();
        for (i, sign) in [(0, -1.0), (1, 1.0)] {
            let rows = self.heads(heads, start + i * sizes.data, sizes.data)?;
            let f = Objective::LogDensity.record(&mut self.tape, rows)?;
            let mean = self.mean(f)?;
            self.add_loss(sign * w, mean)?;
            if l2 > 0.0 {
                let squares = self.tape.one(Mul, &[f, f])?;
                let mean = self.mean(squares)?;
                self.add_loss(l2, mean)?;
            }
            means.push(mean);
        }
        Ok(Some((means[0], means[1])))
    }

    fn rows(&mut self, x: Var, start: usize, rows: usize) -> Result<Var> {
        if start == 0 && self.tape.spec(x)?.first() == rows {
            return Ok(x);
        }
        Ok(self.tape.one(SliceRows { start, rows }, &[x])?)
    }

    /// The outputs of some of the images.
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

    /// Moves the running statistics by the steps of `chains` alone.
    fn fold_steps(&mut self, chains: &Chains) -> Result<()> {
        for (norm, acc) in self.network.norms.iter().zip(&chains.accumulators) {
            for (slot, acc) in [(norm.mean, acc.mean), (norm.var, acc.var)] {
                let rows = slot.spec.with_shape(&[1, slot.spec.len()]);
                let none = self.tape.one(Fill { spec: rows, value: 0.0 }, &[])?;
                self.fold(slot, none, &[self.steps()], vec![1.0], Some(acc))?;
            }
        }
        Ok(())
    }

    fn steps(&self) -> Fold {
        Fold::Steps(self.config.sampler.outer_steps as u32)
    }

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

    /// Moves the running statistics by the whole iteration, in the published order: data, the chain steps, the
    /// chains, the labelled images (`alltrain2`: the chain steps first), then the conditional chains' steps, the
    /// conditional chains, and the labelled images once more.
    fn fold_pass(&mut self, pass: &Forward, g: Groups, parts: &[(Var, usize)], eval: bool) -> Result<()> {
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
            let rows: Vec<usize> = parts.iter().map(|p| p.1 * pixels).collect();
            let ones = vec![1.0; parts.len()];
            for (slot, stats, correct, of_mean) in
                [(norm.mean, *mean, ones, true), (norm.var, *var, unbias(&rows), false)]
            {
                let pick = |c: &Chains| if of_mean { c.accumulators[i].mean } else { c.accumulators[i].var };
                self.fold(slot, stats, &first, correct.clone(), chains.as_ref().map(pick))?;
                if let (Some(q), Some(chains)) = (g.conditional, self.slots.labelled_chains.clone()) {
                    let order = [self.steps(), Fold::Group(q), Fold::Group(g.labelled)];
                    self.fold(slot, stats, &order, correct, Some(pick(&chains)))?;
                }
            }
        }
        Ok(())
    }

    /// Gradients of all parameters, and the step along them.
    fn update(&mut self, loss: Var, lr: Var) -> Result<Vec<Var>> {
        let network = self.network;
        let wrt: Vec<Var> = (0..network.parameters.len()).map(|i| network.used(&mut self.tape, i)).collect();
        let mut gradients = grad(&mut self.tape, loss, &wrt)?;
        for (p, g) in network.parameters.iter().zip(&mut gradients) {
            // Gradients of bf16 filters are float32, but for the zeros of what the loss does not depend on.
            if self.tape.spec(*g)? != p.slot.spec {
                *g = self.tape.one(Cast { to: p.slot.spec.dtype }, &[*g])?;
            }
        }
        self.slots.update.record(&mut self.tape, network, &self.config.train, &gradients, lr)?;
        Ok(gradients)
    }

    /// Puts the chains back.
    fn write_buffer(&mut self, inputs: &Inputs) -> Result<()> {
        let Some(buffer) = self.slots.buffer else { return Ok(()) };
        let pairs =
            [(inputs.index, &self.slots.chains), (inputs.labelled_index, &self.slots.labelled_chains)];
        for (index, chains) in pairs {
            if let (Some(index), Some(chains)) = (index, chains) {
                let (old, x) = (self.tape.read(buffer), self.tape.read(chains.chain));
                let new = self.tape.one(ScatterRows, &[old, index, x])?;
                self.tape.assign(buffer, new)?;
            }
        }
        Ok(())
    }
}
