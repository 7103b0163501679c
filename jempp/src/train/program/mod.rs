//! The training step as one program: grouped forward pass, losses, gradients, update, running statistics, replay buffer.
//!
//! Invariant: running statistics are updated in the order of the published code, although data, chains and labelled images
//! run as one pass here.

pub(super) mod ahead;
mod joint_norm;
mod losses;
mod running_stats;

use self::ahead::{Ahead, AheadSlots};
use self::losses::Share;
use super::update::UpdateSlots;
use crate::config::{Config, DataConfig};
use crate::error::{Error, Result};
use crate::network::Network;
use crate::sampling::{Accumulator, TrainingImages};
use crate::streams;
use engine::ops::augment::Args;
use engine::ops::batch::Pack;
use engine::ops::cast::Cast;
use engine::ops::replay::ScatterRows;
use engine::rng::Stream;
use engine::{Device, Plan, Slot, Spec, Tape, Var, grad};

/// The slots of the chains of log p(x), or of those of log p(x, y).
#[derive(Clone, Debug)]
pub(super) struct ChainSlots {
    /// The chains, n×H×W×C.
    pub(super) chain: Slot,
    /// Batch-norm statistics of the chain steps, one for each batch norm; none with `train.bn = "frozen"`.
    pub(super) accumulators: Option<Vec<Accumulator>>,
}

/// The slots that the program reads and assigns, besides those of the network.
#[derive(Clone, Debug)]
pub(super) struct TrainSlots {
    /// The state of the optimiser.
    pub(super) update: UpdateSlots,
    /// The slots of the chains of log p(x), if that is trained.
    pub(super) chains: Option<ChainSlots>,
    /// The slots of the chains of log p(x, y), if that is trained.
    pub(super) labelled_chains: Option<ChainSlots>,
    /// The replay buffer, if the chains are written back there.
    pub(super) buffer: Option<Slot>,
    /// Seed words, `i32[2]`.
    pub(super) seed: Slot,
    /// What data and labelled images hand on to the program for the chains, if they have a program of their own.
    pub(super) ahead: Option<AheadSlots>,
}

/// The host inputs of the program. Images are given themselves, or as rows of the training images.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs {
    /// Images for log p(x), n×H×W×C, or their rows, `i32[n]`.
    pub(super) data: Option<Var>,
    /// Labelled images, m×H×W×C, or their rows, `i32[m]`.
    pub(super) labelled: Var,
    /// Labels, `i32[m]`.
    pub(super) labels: Var,
    /// The iteration, `i32[1]`, if images are given by row or there is dropout.
    pub(super) step: Option<Var>,
    /// The labels that the conditional chains followed, `i32[m]`.
    pub(super) chain_labels: Option<Var>,
    /// Learning rate, one value.
    pub(super) lr: Var,
    /// Factor of the weight of log p(x), one value, if that is ramped up.
    pub(super) p_x_ramp: Option<Var>,
    /// Buffer rows of the chains, `i32[n]`.
    pub(super) index: Option<Var>,
    /// Buffer rows of the conditional chains, `i32[m]`.
    pub(super) labelled_index: Option<Var>,
}

/// The images of the two batches on the tape.
#[derive(Clone, Copy, Debug)]
struct Batches {
    data: Option<Var>,
    labelled: Var,
}

/// The metrics of an iteration on the tape.
#[derive(Clone, Copy, Debug)]
struct Metrics {
    loss: Var,
    ce: Var,
    accuracy: Var,
    f_data: Option<Var>,
    f_chain: Option<Var>,
}

/// The program of a training step for one input mode, planned.
#[derive(Debug)]
pub(super) struct Program {
    /// The planned program.
    pub(super) plan: Plan,
    /// Its host inputs.
    pub(super) inputs: Inputs,
    /// One vector: the loss, mean cross-entropy and accuracy of the labelled images and, where log p(x) is trained, the
    /// mean unnormalised log p(x) of the data and of the chains.
    pub(super) metrics: Var,
    /// Gradients of all parameters, in order, if asked for.
    pub(super) gradients: Vec<Var>,
    /// The program for data and labelled images, if they have one of their own; this one is then for the chains.
    pub(super) ahead: Option<Ahead>,
}

/// The batch sizes.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchSizes {
    /// Images for log p(x), and as many chains.
    pub(super) data: usize,
    /// Labelled images, and as many chains of log p(x, y).
    pub(super) labelled: usize,
}

/// What else a program does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    /// Take the gradient at the weights that ASAM perturbs.
    pub(super) sam: bool,
    /// Keep the gradients, so that they can be read after a run.
    pub(super) keep_gradients: bool,
}

struct Recorder<'a> {
    tape: Tape,
    network: &'a Network,
    config: &'a Config,
    slots: &'a TrainSlots,
    loss: Option<Var>,
    /// Whether the second pass of an iteration with ASAM is recorded.
    second: bool,
    share: Share,
}

/// The augmentation of the images for log p(x) (`of_data`) or of the labelled ones, and its random stream.
pub(super) fn augmentation(d: &DataConfig, of_data: bool) -> (Args, Stream) {
    let all = Args { pad: d.pad, flip: d.flip, sigma: d.sigma as f32 };
    match of_data {
        true => {
            let moved = if d.p_x_augment { all } else { Args::default() };
            (Args { sigma: d.sigma_of_p_x() as f32, ..moved }, streams::AUGMENT_UNLABELLED)
        }
        false => (all, streams::AUGMENT_LABELLED),
    }
}

impl Program {
    /// Records and plans the program. With `training` images the host gives rows of these, which are augmented by the
    /// program; without, it gives the images.
    ///
    /// # Errors
    /// If there is no memory.
    pub(super) fn new(
        device: &Device,
        network: &Network,
        config: &Config,
        slots: &TrainSlots,
        (training, sizes): (Option<TrainingImages>, BatchSizes),
        Variant { sam, keep_gradients }: Variant,
    ) -> Result<Self> {
        let ahead = slots.ahead.as_ref().map(|to| {
            let of = (training, sizes);
            Ok::<_, Error>((Ahead::new(device, network, config, slots, of, to)?, to))
        });
        let (ahead, share) =
            (ahead.transpose()?, if slots.ahead.is_some() { Share::Chains } else { Share::All });
        let mut r = Recorder { tape: Tape::new(), network, config, slots, loss: None, second: false, share };
        let inputs = r.inputs(training.is_some(), sizes);
        let batches = r.batches(training, &inputs)?;
        let (m, loss, more) = match &ahead {
            Some(((_, has), from)) => Self::chains(&mut r, sizes, &inputs, from, has)?,
            None => {
                let m = r.losses(sizes, &inputs, batches)?;
                (m, m.loss, vec![None; network.parameters.len()])
            }
        };
        let weights: Vec<Var> = network.parameters.iter().map(|p| r.tape.read(p.slot)).collect();
        let mut gradients = r.gradients(loss)?;
        if sam {
            r.perturb(&weights, &gradients)?;
            r.second = true;
            let second = r.losses(sizes, &inputs, batches)?;
            gradients = r.gradients(second.loss)?;
        }
        r.clip(&mut gradients)?;
        let terms: Vec<_> = gradients.iter().copied().zip(more).collect();
        r.slots.update.record(&mut r.tape, network, &config.train, (&weights, &terms), inputs.lr)?;
        r.write_buffer(&inputs)?;
        let all = [Some(m.loss), Some(m.ce), Some(m.accuracy), m.f_data, m.f_chain];
        let metrics = r.tape.one(Pack, &all.into_iter().flatten().collect::<Vec<_>>())?;
        let mut outputs = vec![metrics];
        if keep_gradients {
            outputs.extend(&gradients);
        }
        let plan = r.tape.plan(device, &outputs)?;
        let ahead = ahead.map(|((ahead, _), _)| ahead);
        Ok(Self { plan, inputs, metrics, gradients, ahead })
    }
}

impl Program {
    fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.ahead.iter().map(|a| &a.plan).chain([&self.plan])
    }

    /// Floating-point operations of an iteration's training.
    pub(super) fn flops(&self) -> u64 {
        self.plans().map(|plan| plan.cost().flops).sum()
    }

    /// Bytes of memory that it owns.
    pub(super) fn bytes(&self) -> usize {
        self.plans().map(Plan::bytes).sum()
    }
}

impl Recorder<'_> {
    fn inputs(&mut self, by_row: bool, sizes: BatchSizes) -> Inputs {
        let (t, n) = (&mut self.tape, self.network);
        let px = self.slots.chains.is_some();
        let pxy = self.slots.labelled_chains.is_some();
        let buffer = self.slots.buffer.is_some();
        let ramped = px && self.config.train.p_x_warmup_iters > 0;
        let rows = |k| Spec::i32(&[k]);
        let images = |k| if by_row { rows(k) } else { n.images(k) };
        Inputs {
            data: px.then(|| t.input("x_data", images(sizes.data))),
            labelled: t.input("x_labelled", images(sizes.labelled)),
            step: (by_row || n.config.dropout > 0.0).then(|| t.input("step", rows(1))),
            labels: t.input("labels", rows(sizes.labelled)),
            chain_labels: pxy.then(|| t.input("chain_labels", rows(sizes.labelled))),
            lr: t.input("lr", Spec::new(&[], n.dtype)),
            p_x_ramp: ramped.then(|| t.input("p_x_ramp", Spec::new(&[], n.dtype))),
            index: (px && buffer).then(|| t.input("index", rows(sizes.data))),
            labelled_index: (pxy && buffer).then(|| t.input("labelled_index", rows(sizes.labelled))),
        }
    }

    /// The images of the batches: taken from the training images and augmented, or as the host gives them.
    fn batches(&mut self, training: Option<TrainingImages>, inputs: &Inputs) -> Result<Batches> {
        let (Some(training), Some(step)) = (training, inputs.step) else {
            return Ok(Batches { data: inputs.data, labelled: inputs.labelled });
        };
        let mut batch = |of_data, rows| {
            let (args, stream) = augmentation(&self.config.data, of_data);
            training.batch(&mut self.tape, args, stream, rows, step)
        };
        let data = inputs.data.map(|rows| batch(true, rows)).transpose()?;
        Ok(Batches { data, labelled: batch(false, inputs.labelled)? })
    }

    /// Records the gradients of all parameters.
    fn gradients(&mut self, loss: Var) -> Result<Vec<Var>> {
        let network = self.network;
        let wrt: Vec<Var> = (0..network.parameters.len()).map(|i| network.used(&mut self.tape, i)).collect();
        let mut gradients = grad(&mut self.tape, loss, &wrt)?;
        for (p, g) in network.parameters.iter().zip(&mut gradients) {
            // Gradients of bf16 filters are float32, except for the zeros where the loss does not depend on the filter.
            if self.tape.spec(*g)? != p.slot.spec {
                *g = self.tape.one(Cast { to: p.slot.spec.dtype }, &[*g])?;
            }
        }
        Ok(gradients)
    }

    /// Records the writing of the chains back to the replay buffer.
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
