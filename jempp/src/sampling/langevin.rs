//! Langevin dynamics: one outer step of the proximal-YOPO sampler (PYLD) of JEM++ as a planned program.
//!
//! Invariant: the noise and the masks of dropout are functions of (seed, chain step) only.

use super::{Accumulator, Folding, unbias};
use crate::config::SamplerConfig;
use crate::error::Result;
use crate::network::{BnMode, Forward, Masks, Network, Objective};
use crate::streams;
use arrayvec::ArrayVec;
use engine::ops::bn_running_update::Fold;
use engine::ops::conv2d::{Conv2dInputGrad, Geometry};
use engine::ops::counter::Advance;
use engine::ops::pyld_step::{Args, PyldStep};
use engine::ops::reduce::SumAll;
use engine::rng::Stream;
use engine::{Device, HostTensor, Plan, Slot, Spec, State, Tape, Var, grad};

/// The program of one outer step of PYLD on chains that live in a slot.
#[derive(Debug)]
pub struct Langevin {
    plan: Plan,
    labels: Option<Var>,
    energy: Var,
}

/// What a [`Langevin`] program works on.
#[derive(Debug)]
pub struct LangevinSpec<'a> {
    /// Constants of the sampler.
    pub sampler: &'a SamplerConfig,
    /// The chains, n×H×W×C.
    pub chain: Slot,
    /// Seed words, `i32[2]`.
    pub seed: Slot,
    /// The number of the next chain step, `i32[1]`, which identifies its noise; each run increments it.
    pub counter: Slot,
    /// Whether the chains climb log p(x, y) for given labels y instead of log p(x).
    pub conditional: bool,
    /// Where the statistics of train-mode batch norm accumulate; with `None` batch norm uses its running statistics.
    pub accumulate: Option<&'a [Accumulator]>,
    /// Whether the chains see the network with dropout, as those of training do in the published code.
    pub dropout: bool,
    /// Random stream of the noise.
    pub stream: Stream,
}

impl Langevin {
    /// Records and plans the program.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(device: &Device, network: &Network, spec: &LangevinSpec<'_>) -> Result<Self> {
        let mut tape = Tape::new();
        let n = spec.chain.spec.first();
        let x = tape.read(spec.chain);
        let mode = if spec.accumulate.is_some() { BnMode::Train(vec![n]) } else { BnMode::Running };
        let labels = spec.conditional.then(|| tape.input("labels", Spec::i32(&[n])));
        let with_dropout = spec.dropout && network.config.dropout > 0.0;
        let step = (with_dropout || spec.sampler.noise > 0.0).then(|| tape.read(spec.counter));
        let seed = tape.read(spec.seed);
        let masks =
            step.filter(|_| with_dropout).map(|step| Masks { seed, step, stream: streams::CHAIN_DROPOUT });
        // The inner steps take their gradient at the output of the first convolution, on which alone the rest must
        // depend: a fused convolution would also depend on its statistics.
        let unfused = spec.sampler.literal.then(|| Network { fused: false, ..network.clone() });
        let f = unfused.as_ref().unwrap_or(network).forward_with(&mut tape, x, &mode, masks)?;
        let objective = labels.map_or(Objective::LogDensity, Objective::Label).record(&mut tape, f.heads)?;
        let total = tape.one(SumAll { factor: 1.0 }, &[objective])?;
        let energy = tape.one(SumAll { factor: 1.0 / n as f64 }, &[objective])?;
        let moved = Self::record_move(&mut tape, network, spec, x, &f, total, step)?;
        tape.assign(spec.chain, moved)?;
        if let Some(step) = step {
            let next = tape.one(Advance { by: 1 }, &[step])?;
            tape.assign(spec.counter, next)?;
        }
        Self::record_statistics(&mut tape, network, spec.accumulate.unwrap_or_default(), &f, n)?;
        let plan = tape.plan(device, &[energy])?;
        Ok(Self { plan, labels, energy })
    }

    /// Folds the statistics of n chains' batch norms into the accumulators.
    fn record_statistics(
        tape: &mut Tape,
        network: &Network,
        accumulators: &[Accumulator],
        f: &Forward,
        n: usize,
    ) -> Result<()> {
        let mut fold = Folding::default();
        for (i, (acc, (mean, var))) in accumulators.iter().zip(&f.stats).enumerate() {
            let rows = n * f.pixels(tape, i)?;
            fold.add(tape, acc.mean, *mean, vec![1.0]);
            fold.add(tape, acc.var, *var, unbias(&[rows]));
        }
        fold.record(tape, network.config.bn_momentum, &[Fold::Group(0)])
    }

    /// Records the move: the N inner steps as one op, or with `sampler.literal` one by one.
    fn record_move(
        tape: &mut Tape,
        network: &Network,
        spec: &LangevinSpec<'_>,
        x: Var,
        f: &Forward,
        total: Var,
        step: Option<Var>,
    ) -> Result<Var> {
        let s = spec.sampler;
        let args = Args {
            inner: s.inner_steps as u32,
            step_size: s.step_size,
            clip: s.clip,
            boxed: s.in_box,
            sgld_lr: s.sgld_lr,
            noise: s.noise,
            clip_after_noise: s.clip_after_noise,
        };
        let noise_id = match step.filter(|_| s.noise > 0.0) {
            Some(step) => vec![tape.read(spec.seed), step],
            None => Vec::new(),
        };
        let pyld = |args| PyldStep { args, stream: spec.stream };
        if !s.literal {
            let g = grad(tape, total, &[f.x])?[0];
            let inputs: Vec<Var> = [x, g].into_iter().chain(noise_id).collect();
            return Ok(tape.one(pyld(args), &inputs)?);
        }
        // p = ∂f/∂(first layer's output) at the outer point; each inner step takes its own gradient through the
        // first layer.
        let p = grad(tape, total, &[f.first])?[0];
        let w = network.used(tape, network.conv1.weight);
        let geometry = Geometry { stride: network.conv1.stride, pad: network.conv1.pad };
        let input_grad = Conv2dInputGrad { geometry, x: spec.chain.spec };
        let without_noise = Args { noise: 0.0, sgld_lr: 0.0, inner: 1, ..args };
        let mut x = x;
        if args.sgld_lr > 0.0 {
            let g = tape.one(input_grad, &[p, w])?;
            x = tape.one(pyld(Args { noise: 0.0, inner: 0, ..args }), &[x, g])?;
        }
        for _ in 0..args.inner {
            let g = tape.one(input_grad, &[p, w])?;
            x = tape.one(pyld(without_noise), &[x, g])?;
        }
        if args.noise > 0.0 {
            let g = tape.one(input_grad, &[p, w])?;
            let inputs: Vec<Var> = [x, g].into_iter().chain(noise_id).collect();
            x = tape.one(pyld(Args { sgld_lr: 0.0, inner: 0, ..args }), &inputs)?;
        }
        Ok(x)
    }

    /// Moves the chains by one outer step.
    ///
    /// # Errors
    /// If labels are missing, or (debug mode `nan`) a value is not finite.
    pub fn run(&mut self, state: &mut State, labels: Option<&[i32]>) -> Result<()> {
        let inputs = self.inputs(labels.unwrap_or_default());
        Ok(self.plan.run(state, inputs.as_slice())?)
    }

    /// The host inputs of a run: the labels, one per chain, if the chains follow labels.
    pub(crate) fn inputs<'a>(&self, labels: &'a [i32]) -> ArrayVec<(Var, HostTensor<'a>), 1> {
        self.labels.map(|v| (v, HostTensor::I32(labels))).into_iter().collect()
    }

    /// The objective, unnormalised log p(x) or log p(x, y), before the last move: its mean over the chains.
    ///
    /// # Errors
    /// If a GPU fails.
    pub fn energy(&self) -> Result<f64> {
        Ok(self.plan.scalar(self.energy)?)
    }

    /// The planned program.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The planned program, to be run within a sequence.
    pub(crate) fn plan_mut(&mut self) -> &mut Plan {
        &mut self.plan
    }
}
