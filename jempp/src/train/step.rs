//! A training step with everything that it works on: model, optimiser, sampler and replay buffer.
//!
//! Invariant: what an iteration depends on lies in the state and the counters; programs hold nothing from one to the next.

use super::adversary::Attacker;
use super::health::saturation;
use super::iteration::{InFlight, InputMode, ModeProgram, StepBuffers};
use super::program::ahead::divides;
use super::program::{ChainSlots, TrainSlots};
use super::slots::train_slots;
use super::{Counters, Footprint, Options, Recovery};
use crate::config::{Config, Init, SamplerConfig};
use crate::error::{Error, Result};
use crate::network::{Network, get, set};
use crate::sampling::{
    InitChains, Langevin, LangevinSpec, TrainingImages, counter_slot, fill_buffer, seed_slot,
};
use crate::streams;
use engine::{DType, Device, Plan, Slot, State};
use jempp_data::Dataset;
use std::borrow::Cow;
use std::collections::VecDeque;

/// Model, optimiser, sampler and replay buffer, and the programs of a training step on them. The caller gives the batches
/// and the learning rate of each step.
#[derive(Debug)]
pub struct TrainStep {
    pub(super) config: Config,
    pub(super) device: Device,
    pub(super) state: State,
    pub(super) network: Network,
    pub(super) slots: TrainSlots,
    pub(super) training: Option<TrainingImages>,
    /// For each image of the data set its row among the training images, or −1.
    pub(super) rows: Vec<i32>,
    /// The first row of each class among the training images, then their number.
    pub(super) offsets: Vec<i32>,
    pub(super) init: Option<InitChains>,
    pub(super) init_labelled: Option<InitChains>,
    pub(super) langevin: Option<Langevin>,
    pub(super) langevin_labelled: Option<Langevin>,
    /// One for each input mode, compiled on first use; the first is compiled by [`TrainStep::new`].
    pub(super) programs: Vec<ModeProgram>,
    /// Iterations whose metrics have not been taken yet.
    pub(super) in_flight: VecDeque<InFlight>,
    pub(super) buffers: StepBuffers,
    /// Attacks the labelled images in adversarial training.
    pub(super) adversary: Option<Attacker>,
    pub(super) options: Options,
    /// The number of the next chain step, `i32[1]`, as the programs count it.
    pub(super) chain_step: Slot,
    pub(super) counters: Counters,
    /// Whether ActNorm is not initialised from the first batch, because the weights are those of a model.
    pub(super) keep_actnorm: bool,
    /// Iterations done when the stage of the run began, from which the schedule counts.
    pub(super) began: u64,
    /// What rollbacks have changed.
    pub(super) recovery: Recovery,
    /// The fraction of the data's values at a face of the box, if there is a data set.
    pub(super) data_saturation: Option<f64>,
}

impl TrainStep {
    /// Fresh weights and a freshly filled replay buffer. `data`, a data set and the indices of its training images, is what
    /// chains restart from; without it the caller gives the starts of chains to each step, unless only the cross-entropy is
    /// trained.
    ///
    /// # Errors
    /// [`Error::Config`] if configuration and data do not fit together; [`Error::OutOfMemory`].
    pub fn new(
        config: &Config,
        device: &Device,
        data: Option<(&Dataset, &[u32])>,
        options: Options,
    ) -> Result<Self> {
        config.validate()?;
        data.map_or(Ok(()), |(set, _)| config.check_fit(set))?;
        let mut state = State::on(device);
        let f32 = options.dtype == DType::F32;
        let activations = if f32 { device.activations() } else { options.dtype };
        let mut network = Network::with_dtype(&mut state, &config.model, activations)?;
        network.fused &= !options.unfused;
        network.biases_apart |= options.unfused;
        network.initialise(&mut state, config.seed)?;
        let seed = seed_slot(&mut state, config.seed)?;
        let data = data.filter(|_| f32);
        let images = data.map(|(set, train)| TrainingImages::new(&mut state, set, train, seed));
        let (training, rows) = images.transpose()?.unzip();
        let chain_step = counter_slot(&mut state, 0)?;
        let ahead = divides(config, device, &options);
        let slots = train_slots(&mut state, &network, config, (seed, training.is_some(), ahead))?;
        if let (Some(buffer), Some(images)) = (slots.buffer, training) {
            fill_buffer(device, &mut state, images, buffer, &config.sampler, config.model.classes)?;
        }
        let offsets = training.map(|t| state.fetch::<i32>(t.offsets())).transpose()?;
        let init = |chains: &Option<ChainSlots>| init_of(device, chains.as_ref(), slots.buffer, training);
        let langevin = |chains: &Option<ChainSlots>, conditional| {
            let program =
                |c| langevin_of(c, &config.sampler, device, &network, [seed, chain_step], conditional);
            chains.as_ref().map(program).transpose()
        };
        let mut trainer = Self {
            init: init(&slots.chains)?,
            init_labelled: init(&slots.labelled_chains)?,
            langevin: langevin(&slots.chains, false)?,
            langevin_labelled: langevin(&slots.labelled_chains, true)?,
            config: config.clone(),
            device: device.clone(),
            rows: rows.unwrap_or_default(),
            offsets: offsets.unwrap_or_default(),
            state,
            network,
            slots,
            training,
            programs: Vec::new(),
            in_flight: VecDeque::new(),
            buffers: StepBuffers::default(),
            adversary: None,
            options,
            chain_step,
            counters: Counters::default(),
            keep_actnorm: false,
            began: 0,
            recovery: Recovery::default(),
            data_saturation: data.map(|(set, _)| saturation(set.images())),
        };
        trainer.compile_first()?;
        Ok(trainer)
    }

    /// Compiles the programs of the attack, and the training programs, with and without ASAM as configured, for the mode in
    /// which the data set is used, if there is one.
    fn compile_first(&mut self) -> Result<()> {
        let data = self.training.is_some();
        self.adversary = self.attacker()?;
        let by_row = data && self.adversary.is_none();
        let mode = InputMode { by_row, chains_given: !data };
        let t = &self.config.train;
        let (sam, plain) = (t.sam_rho > 0.0, t.sam_rho == 0.0 || t.sam_every > 1);
        for sam in [sam.then_some(true), plain.then_some(false)].into_iter().flatten() {
            self.program_for(mode, sam)?;
        }
        Ok(())
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// All tensors.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// All tensors, for assigning parameters; [`TrainStep::round`] must be called afterwards.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// Rounds the parameters into the bf16 copies of filters, as is due after assigning parameters.
    ///
    /// # Errors
    /// If a GPU fails.
    pub fn round(&mut self) -> Result<()> {
        self.network.round(&mut self.state)
    }

    /// Iterations, sampling rounds and chain steps done.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Sets the counters, as of a checkpoint that is resumed.
    ///
    /// # Errors
    /// If a GPU fails.
    pub fn set_counters(&mut self, c: Counters) -> Result<()> {
        self.state.set(self.chain_step, &[c.chain_step as i32])?;
        self.counters = c;
        let steps = c.iteration.saturating_sub(self.began);
        self.slots.update.set_steps_done(&mut self.state, steps)
    }

    /// Makes this the step of a later stage of a run, which began after iteration `began`: the schedule counts from there, and
    /// so does Adam.
    ///
    /// # Errors
    /// If a GPU fails.
    pub(crate) fn begin_stage(&mut self, began: u64) -> Result<()> {
        self.began = began;
        self.set_counters(self.counters)
    }

    /// Clears the accumulated statistics of chain steps, which are zero between iterations.
    pub(super) fn clear_accumulators(&mut self) -> Result<()> {
        let chains = [&self.slots.chains, &self.slots.labelled_chains];
        for a in chains.into_iter().flatten().flat_map(|c| c.accumulators.iter().flatten()) {
            for slot in [a.mean, a.var] {
                set(&mut self.state, slot, &vec![0.0; slot.spec.len()])?;
            }
        }
        Ok(())
    }

    /// Whether chains would restart from images, but there are none.
    pub(super) fn lacks_restarts(&self) -> bool {
        let chains = self.slots.chains.is_some() || self.slots.labelled_chains.is_some();
        chains && self.training.is_none() && self.config.sampler.init == Init::Informative
    }

    /// Fills the replay buffer with fresh chains, if there is one.
    ///
    /// # Errors
    /// If there is no memory.
    pub(super) fn refill_buffer(&mut self) -> Result<()> {
        let (Some(buffer), Some(images)) = (self.slots.buffer, self.training) else { return Ok(()) };
        let (sampler, classes) = (&self.config.sampler, self.config.model.classes);
        fill_buffer(&self.device, &mut self.state, images, buffer, sampler, classes)
    }

    /// The chains after the last step, n×H×W×C; empty if log p(x) is not trained.
    ///
    /// # Errors
    /// If a GPU fails.
    pub fn chains(&self) -> Result<Vec<f32>> {
        self.slots.chains.as_ref().map_or(Ok(Vec::new()), |c| get(&self.state, c.chain))
    }

    /// The replay buffer, B×H×W×C, if there is one: borrowed, or copied if it lies on a GPU.
    ///
    /// # Errors
    /// If a GPU fails.
    pub fn buffer(&self) -> Result<Option<Cow<'_, [f32]>>> {
        Ok(self.slots.buffer.map(|b| self.state.view(b)).transpose()?)
    }

    /// Slots of the optimiser, the averages of the weights and the replay buffer, with their names in a checkpoint.
    pub fn extra_slots(&self) -> Vec<(String, Slot)> {
        let mut all = self.slots.update.named(&self.network);
        all.extend(self.slots.buffer.map(|b| ("replay_buffer".to_owned(), b)));
        all
    }

    /// The tensors of the model that is evaluated and saved, by published name: the parameters, or with `train.ema` their
    /// averages, and the running statistics, which are always those of the parameters.
    pub fn served(&self) -> impl Iterator<Item = (String, Slot)> {
        let average = self.slots.update.average.iter().map(|a| Some(*a)).chain(core::iter::repeat(None));
        self.network.tensors().zip(average).map(|((name, slot), average)| (name, average.unwrap_or(slot)))
    }

    /// The training images, if there is a data set.
    pub(super) fn training_images(&self) -> Option<TrainingImages> {
        self.training
    }

    /// Gradients of the last step, by parameter name.
    ///
    /// # Errors
    /// If they were not kept ([`Options::keep_gradients`]).
    pub fn gradients(&self) -> Result<Vec<(String, Vec<f64>)>> {
        let program = self.programs.iter().max_by_key(|r| r.last_used).map(|r| &r.program);
        let program = program.ok_or_else(|| Error::Internal("a training step without a program".into()))?;
        let named = self.network.parameters.iter().zip(&program.gradients);
        named
            .map(|(p, g)| {
                let values = match self.options.dtype {
                    DType::F64 => program.plan.fetch::<f64>(*g)?,
                    _ => program.plan.fetch::<f32>(*g)?.into_iter().map(f64::from).collect(),
                };
                Ok((p.name.clone(), values))
            })
            .collect()
    }

    /// Parameters, memory and FLOPs of an iteration.
    pub fn footprint(&self) -> Footprint {
        let m = self.config.sampler.outer_steps as u64;
        let plans = [self.langevin.as_ref(), self.langevin_labelled.as_ref()];
        let chain: Vec<_> = plans.into_iter().flatten().map(|l| l.plan()).collect();
        // With `train.sam_every` above 1 two programs take turns: FLOPs are the mean.
        let mode = self.programs.first().map(|r| r.mode);
        let steps: Vec<_> = self.programs.iter().filter(|r| Some(r.mode) == mode).collect();
        let of = |sam| steps.iter().find(|r| r.sam == sam).map(|r| r.program.flops());
        let step_flops = match (of(true), of(false)) {
            (Some(sam), Some(plain)) => {
                plain + sam.saturating_sub(plain) / self.config.train.sam_every as u64
            }
            (sam, plain) => sam.or(plain).unwrap_or(0),
        };
        let step_bytes: usize = steps.iter().map(|r| r.program.bytes()).sum();
        Footprint {
            parameters: self.network.parameter_count(),
            state_bytes: self.state.bytes() as u64,
            program_bytes: (step_bytes + chain.iter().map(|p| p.bytes()).sum::<usize>()) as u64,
            flops: step_flops
                + m * chain.iter().map(|p| p.cost().flops).sum::<u64>()
                + self.adversary.as_ref().map_or(0, |a| a.flops(self.config.train.adversary_steps)),
        }
    }

    /// The programs of an iteration, and how often each runs in it; without those of an attack. If [`TrainStep::runs_beside`],
    /// the first runs beside all but the last.
    pub fn programs(&self) -> Vec<(u64, &Plan)> {
        let m = self.config.sampler.outer_steps as u64;
        let inits = [&self.init, &self.init_labelled].into_iter().flatten().map(|i| (1, i.plan()));
        let chains = [&self.langevin, &self.langevin_labelled].into_iter().flatten().map(|l| (m, l.plan()));
        let first = self.programs.first().map(|r| &r.program);
        let ahead = first.and_then(|p| p.ahead.as_ref()).map(|a| (1, &a.plan));
        ahead.into_iter().chain(inits).chain(chains).chain(first.map(|p| (1, &p.plan))).collect()
    }

    /// Whether data and labelled images have a program of their own, which on a GPU runs beside the chain steps.
    pub fn runs_beside(&self) -> bool {
        self.slots.ahead.is_some()
    }

    /// The planned programs as text, for debugging.
    pub fn dump(&self) -> String {
        let chain = self.langevin.as_ref().map(|l| l.plan().to_string()).unwrap_or_default();
        let step = self.programs.first().map(|r| r.program.plan.to_string()).unwrap_or_default();
        format!("Langevin step\n{chain}\nTraining step\n{step}")
    }
}

/// The program that starts a sampling round of `chains`, if there is a replay buffer.
fn init_of(
    device: &Device,
    chains: Option<&ChainSlots>,
    buffer: Option<Slot>,
    training: Option<TrainingImages>,
) -> Result<Option<InitChains>> {
    match (chains, buffer, training) {
        (Some(c), Some(b), Some(t)) => InitChains::new(device, b, c.chain, t).map(Some),
        _ => Ok(None),
    }
}

/// The chain step of `chains`, with the slots of the seed words and of the chain-step counter.
pub(super) fn langevin_of(
    chains: &ChainSlots,
    sampler: &SamplerConfig,
    device: &Device,
    network: &Network,
    [seed, counter]: [Slot; 2],
    conditional: bool,
) -> Result<Langevin> {
    let spec = LangevinSpec {
        sampler,
        chain: chains.chain,
        seed,
        counter,
        conditional,
        accumulate: chains.accumulators.as_deref(),
        dropout: true,
        stream: streams::LANGEVIN,
    };
    Langevin::new(device, network, &spec)
}
