//! Training: a [`Trainer`] takes one iteration at a time, on batches that the caller gives.
//!
//! Invariant: an iteration is a function of the state, the batches and the counters; nothing else is remembered.

mod actnorm;
mod adopt;
mod adversary;
pub mod collapse;
mod fit;
pub mod program;
pub mod recalibrate;
pub mod state;
mod step;
pub mod trainer;
pub mod update;

use crate::config::{Config, Schedule};
use crate::error::{Error, Result};
use crate::network::{Network, get};
use crate::sampling::{Begin, Langevin, LangevinSpec, Source, counter_slot, fill_buffer, seed_slot};
use crate::streams;
use engine::{DType, Device, Plan, Slot, State};
pub use fit::check_fit;
use fit::make_slots;
use jempp_data::Dataset;
use program::{Chains, Slots};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::VecDeque;
use step::{Feed, InFlight, Ready, Way};

/// One iteration's batches, N×H×W×C in [−1, 1].
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Images for log p(x), `train.batch_size` of them; ignored if that is not trained.
    pub x_data: &'a [f32],
    /// Labelled images.
    pub x_labelled: &'a [f32],
    /// Their labels.
    pub labels: &'a [i32],
    /// Where the chains start instead of the replay buffer; they then do not go back there.
    pub chain_start: Option<&'a [f32]>,
}

/// What one iteration measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Iterations done.
    pub step: u64,
    /// The loss.
    pub loss: f64,
    /// Mean cross-entropy of the labelled batch.
    pub ce: f64,
    /// Mean unnormalised log p(x) of the data; NaN if that is not trained.
    pub log_density_data: f64,
    /// The same of the chains.
    pub log_density_chain: f64,
    /// Share of the labelled batch classified right.
    pub accuracy: f64,
    /// Learning rate of this iteration.
    pub lr: f64,
}

impl StepMetrics {
    /// mean f(x_data) − mean f(x_chain).
    pub fn gap(&self) -> f64 {
        self.log_density_data - self.log_density_chain
    }
}

/// The integers that, with the state, determine everything to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Iterations done.
    pub iteration: u64,
    /// Sampling rounds done.
    pub round: u32,
    /// Chain steps done.
    pub chain_step: u32,
}

/// How a trainer is made beyond its configuration.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Float type of the parameters; float64 (oracle) takes chains only through [`Batch::chain_start`]. With float32 the
    /// device says what activations are ([`Device::activations`]).
    pub dtype: DType,
    /// Whether gradients can be read after a step.
    pub keep_gradients: bool,
    /// Whether every op is recorded apart, as on a GPU: the oracle of [`Network::fused`].
    pub apart: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { dtype: DType::F32, keep_gradients: false, apart: false }
    }
}

/// One iteration's batches, as numbers of the images in the data set.
#[derive(Clone, Copy, Debug)]
pub struct Picks<'a> {
    /// Images for log p(x), `train.batch_size` of them; ignored if that is not trained.
    pub data: &'a [u32],
    /// Labelled images.
    pub labelled: &'a [u32],
}

/// Model, optimiser, sampler and replay buffer in training.
#[derive(Debug)]
pub struct Trainer {
    config: Config,
    device: Device,
    state: State,
    network: Network,
    slots: Slots,
    source: Option<Source>,
    /// For each image of the data set its row among those of the source, or −1.
    rows: Vec<i32>,
    /// Class frequencies of the restarts.
    offsets: Vec<i32>,
    begin: Option<Begin>,
    begin_labelled: Option<Begin>,
    langevin: Option<Langevin>,
    langevin_labelled: Option<Langevin>,
    /// One for each way to feed an iteration, made when first needed; the first is made at once.
    programs: Vec<Ready>,
    /// Iterations whose metrics have not been taken.
    in_flight: VecDeque<InFlight>,
    feed: Feed,
    /// What attacks the labelled images, if they are attacked.
    adversary: Option<adversary::Attacker>,
    options: Options,
    /// What the restarts draw from, as read by the programs.
    seed: Slot,
    /// The number of the next chain step, as the programs count it.
    chain_step: Slot,
    counters: Counters,
}

fn labelled_size(c: &Config) -> usize {
    if c.train.labelled_batch_size == 0 { c.train.batch_size } else { c.train.labelled_batch_size }
}

impl Trainer {
    /// A trainer with fresh weights. `data` gives the images behind restarts and the first fill of the buffer;
    /// without it chains must be given to each step (unless only the cross-entropy is trained).
    ///
    /// # Errors
    /// If the configuration and the data do not fit, or memory runs out.
    pub fn new(
        config: &Config,
        device: &Device,
        data: Option<(&Dataset, &[u32])>,
        options: Options,
    ) -> Result<Self> {
        config.validate()?;
        if let Some((set, _)) = data {
            check_fit(config, set)?;
        }
        let mut state = State::on(device);
        let low = options.dtype == DType::F32;
        let activations = if low { device.activations() } else { options.dtype };
        let mut network = Network::with_dtype(&mut state, &config.model, activations)?;
        network.fused &= !options.apart;
        network.initialise(&mut state, config.seed)?;
        let seed = seed_slot(&mut state, config.seed)?;
        let data = data.filter(|_| options.dtype == DType::F32);
        let source = data.map(|(set, train)| Source::new(&mut state, set, train, seed)).transpose()?;
        let (source, rows) = source.unzip();
        let chain_step = counter_slot(&mut state, 0)?;
        let slots = make_slots(&mut state, &network, config, seed, source.is_some())?;
        if let (Some(buffer), Some(source)) = (slots.buffer, source) {
            fill_buffer(device, &mut state, source, buffer, &config.sampler, config.model.classes)?;
        }
        let offsets = source.map(|s| state.fetch::<i32>(s.offsets())).transpose()?;
        let begin = |chains: &Option<Chains>| match (chains, slots.buffer, source) {
            (Some(c), Some(b), Some(s)) => Begin::new(device, b, c.chain, s).map(Some),
            _ => Ok(None),
        };
        let langevin = |chains: &Option<Chains>, conditional| {
            let spec = |c| LangevinSpec {
                sampler: &config.sampler,
                chain: c,
                seed,
                counter: chain_step,
                conditional,
                accumulate: None,
                stream: streams::LANGEVIN,
            };
            chains
                .as_ref()
                .map(|c| {
                    let spec = LangevinSpec { accumulate: Some(&c.accumulators), ..spec(c.chain) };
                    Langevin::new(device, &network, &spec)
                })
                .transpose()
        };
        let mut trainer = Self {
            begin: begin(&slots.chains)?,
            begin_labelled: begin(&slots.labelled_chains)?,
            langevin: langevin(&slots.chains, false)?,
            langevin_labelled: langevin(&slots.labelled_chains, true)?,
            config: config.clone(),
            device: device.clone(),
            rows: rows.unwrap_or_default(),
            offsets: offsets.unwrap_or_default(),
            state,
            network,
            slots,
            source,
            programs: Vec::new(),
            in_flight: VecDeque::new(),
            feed: Feed::default(),
            adversary: None,
            options,
            seed,
            chain_step,
            counters: Counters::default(),
        };
        let data = trainer.source.is_some();
        trainer.adversary = trainer.attacker()?;
        let picked = data && trainer.adversary.is_none();
        trainer.ready(Way { picked, started: !data })?;
        Ok(trainer)
    }

    /// The learning rate of the next iteration of a run of `total` iterations, `per_epoch` of them an epoch.
    pub fn learning_rate(&self, per_epoch: u64, total: u64) -> f64 {
        let (t, i) = (&self.config.train, self.counters.iteration);
        let warmup = t.warmup_iters as u64;
        if i < warmup {
            return t.lr * i as f64 / t.warmup_iters as f64;
        }
        match t.schedule {
            Schedule::Steps => {
                let epoch = i / per_epoch.max(1);
                let decays = t.decay_epochs.iter().filter(|e| **e as u64 <= epoch).count();
                t.lr * t.decay_rate.powi(decays as i32)
            }
            Schedule::Cosine => {
                // A run that was warmed up in all its iterations has nothing left to fall over.
                let done = (i - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
                let share = 0.5 * (1.0 + (core::f64::consts::PI * done.min(1.0)).cos());
                t.lr_min + (t.lr - t.lr_min) * share
            }
            Schedule::Constant => t.lr,
        }
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

    /// All tensors, to be loaded; then [`Trainer::round`] is due.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// Renews the bf16 copies of filters from the parameters, as after loading these.
    ///
    /// # Errors
    /// If a GPU refuses.
    pub fn round(&mut self) -> Result<()> {
        self.network.round(&mut self.state)
    }

    /// The counters.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Continues from these counters.
    ///
    /// # Errors
    /// If a GPU refuses.
    pub fn set_counters(&mut self, c: Counters) -> Result<()> {
        self.state.set(self.chain_step, &[c.chain_step as i32])?;
        self.counters = c;
        self.slots.update.set_done(&mut self.state, c.iteration)
    }

    /// The chains after the last step, n×H×W×C; empty if log p(x) is not trained.
    ///
    /// # Errors
    /// None while the state is the trainer's own.
    pub fn chains(&self) -> Result<Vec<f32>> {
        self.slots.chains.as_ref().map_or(Ok(Vec::new()), |c| get(&self.state, c.chain))
    }

    /// The replay buffer, B×H×W×C: itself, or a copy where it lives on a GPU.
    ///
    /// # Errors
    /// If a GPU refuses.
    pub fn buffer(&self) -> Result<Option<Cow<'_, [f32]>>> {
        Ok(self.slots.buffer.map(|b| self.state.view(b)).transpose()?)
    }

    /// Slots of the optimiser, the weights' averages and the buffer with their names in a checkpoint.
    pub fn extra_slots(&self) -> Vec<(String, Slot)> {
        let mut all = self.slots.update.named(&self.network);
        all.extend(self.slots.buffer.map(|b| ("replay_buffer".to_owned(), b)));
        all
    }

    /// What is to be judged and served, by published name: parameters, or their averages if there are any, and running
    /// statistics, which are those of the parameters.
    pub fn served(&self) -> impl Iterator<Item = (String, Slot)> {
        let average = self.slots.update.average.iter().map(|a| Some(*a)).chain(core::iter::repeat(None));
        self.network.tensors().zip(average).map(|((name, slot), average)| (name, average.unwrap_or(slot)))
    }

    /// Where fresh chains come from, if the trainer has data.
    pub fn source(&self) -> Option<Source> {
        self.source
    }

    /// The seed's slot.
    pub fn seed(&self) -> Slot {
        self.seed
    }

    /// Gradients of the last step by parameter name, if they were kept.
    ///
    /// # Errors
    /// If they were not kept.
    pub fn gradients(&self) -> Result<Vec<(String, Vec<f64>)>> {
        let program = self.programs.iter().max_by_key(|r| r.last_used).map(|r| &r.program);
        let program = program.ok_or_else(|| Error::Internal("a trainer without a program".into()))?;
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

    /// Bytes planned for the programs and held by the state, and FLOPs of one iteration.
    pub fn footprint(&self) -> Footprint {
        let m = self.config.sampler.outer_steps as u64;
        let plans = [self.langevin.as_ref(), self.langevin_labelled.as_ref()];
        let chain: Vec<_> = plans.into_iter().flatten().map(|l| l.plan()).collect();
        let step = self.programs.first().map(|r| &r.program.plan);
        Footprint {
            parameters: self.network.parameter_count(),
            state_bytes: self.state.bytes() as u64,
            program_bytes: (step.map_or(0, Plan::bytes) + chain.iter().map(|p| p.bytes()).sum::<usize>())
                as u64,
            flops: step.map_or(0, |p| p.cost().flops)
                + m * chain.iter().map(|p| p.cost().flops).sum::<u64>()
                + self.adversary.as_ref().map_or(0, |a| a.flops(self.config.train.adversary_steps)),
        }
    }

    /// The plans as text, for debugging.
    pub fn dump(&self) -> String {
        let chain = self.langevin.as_ref().map(|l| l.plan().to_string()).unwrap_or_default();
        let step = self.programs.first().map(|r| r.program.plan.to_string()).unwrap_or_default();
        format!("Langevin step\n{chain}\nTraining step\n{step}")
    }
}

/// What a run costs, known before it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Trained values.
    pub parameters: u64,
    /// Bytes of weights, optimiser, statistics, buffer and training images.
    pub state_bytes: u64,
    /// Bytes of the planned programs.
    pub program_bytes: u64,
    /// Floating-point operations of an iteration.
    pub flops: u64,
}
