//! Training: a [`Trainer`] takes one iteration at a time, on batches that the caller gives.
//!
//! Invariant: an iteration is a function of the state, the batches and the counters; nothing else is remembered.

mod adopt;
pub mod program;

use crate::config::{Config, Init};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::model::{Network, get, set};
use crate::sampler::{Accumulator, Begin, Draw, Langevin, LangevinSpec, Source, fill_buffer, seed_slot};
use engine::rng::Stream;
use engine::{DType, Device, Host, Slot, State, Var};
use program::{Chains, Program, Sizes, Slots};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

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
    /// Float type; float64 (oracle) takes chains only through [`Batch::chain_start`].
    pub dtype: DType,
    /// Whether gradients can be read after a step.
    pub keep_gradients: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { dtype: DType::F32, keep_gradients: false }
    }
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
    /// Class frequencies of the restarts.
    offsets: Vec<i32>,
    begin: Option<Begin>,
    begin_labelled: Option<Begin>,
    langevin: Option<Langevin>,
    langevin_labelled: Option<Langevin>,
    buffered: Program,
    /// The program for chains that the caller starts; made when first needed.
    explicit: Option<Program>,
    options: Options,
    /// What the restarts draw from, as read by the programs.
    seed: Slot,
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
        let network = Network::with_dtype(&mut state, &config.model, options.dtype)?;
        network.initialise(&mut state, config.seed)?;
        let seed = seed_slot(&mut state, config.seed)?;
        let data = data.filter(|_| options.dtype == DType::F32);
        let source = data.map(|(set, train)| Source::new(&mut state, set, train, seed)).transpose()?;
        let slots = make_slots(&mut state, &network, config, source.is_some())?;
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
                conditional,
                accumulate: None,
                stream: Stream::Langevin,
            };
            chains
                .as_ref()
                .map(|c| {
                    let spec = LangevinSpec { accumulate: Some(&c.accumulators), ..spec(c.chain) };
                    Langevin::new(device, &network, &spec)
                })
                .transpose()
        };
        let sizes = Sizes { data: config.train.batch_size, labelled: labelled_size(config) };
        let buffered = Program::new(device, &network, config, &slots, sizes, options.keep_gradients)?;
        Ok(Self {
            begin: begin(&slots.chains)?,
            begin_labelled: begin(&slots.labelled_chains)?,
            langevin: langevin(&slots.chains, false)?,
            langevin_labelled: langevin(&slots.labelled_chains, true)?,
            config: config.clone(),
            device: device.clone(),
            offsets: offsets.unwrap_or_default(),
            state,
            network,
            slots,
            source,
            buffered,
            explicit: None,
            options,
            seed,
            counters: Counters::default(),
        })
    }

    /// The learning rate of the next iteration, `iterations_per_epoch` apart from `train.decay_epochs`.
    pub fn learning_rate(&self, iterations_per_epoch: u64) -> f64 {
        let (t, i) = (&self.config.train, self.counters.iteration);
        if i < t.warmup_iters as u64 {
            return t.lr * i as f64 / t.warmup_iters as f64;
        }
        let epoch = i / iterations_per_epoch.max(1);
        let decays = t.decay_epochs.iter().filter(|e| **e as u64 <= epoch).count();
        t.lr * t.decay_rate.powi(decays as i32)
    }

    /// One iteration: sampling, grouped pass, update.
    ///
    /// # Errors
    /// [`Error::Data`] for batches of a wrong size, a label out of range or a value that is not finite.
    pub fn step(&mut self, batch: &Batch<'_>, lr: f64) -> Result<StepMetrics> {
        self.check(batch)?;
        let labels = self.chain_labels(batch);
        let draws = match batch.chain_start {
            Some(start) => {
                self.start_from(start)?;
                None
            }
            None => Some(self.begin(&labels)?),
        };
        let base = self.counters.chain_step;
        for m in 0..self.config.sampler.outer_steps as u32 {
            if let Some(l) = &mut self.langevin {
                l.run(&mut self.state, base.wrapping_add(m), None)?;
            }
        }
        let mut used = if self.langevin.is_some() { self.config.sampler.outer_steps as u32 } else { 0 };
        for _ in 0..self.config.sampler.outer_steps {
            if let Some(l) = &mut self.langevin_labelled {
                l.run(&mut self.state, base.wrapping_add(used), Some(&labels))?;
                used += 1;
            }
        }
        self.counters.chain_step = base.wrapping_add(used);
        let metrics = self.update(batch, lr, draws.as_ref(), &labels)?;
        Ok(metrics)
    }

    /// The labels that conditional chains follow: those of the labelled batch.
    fn chain_labels(&self, batch: &Batch<'_>) -> Vec<i32> {
        if self.langevin_labelled.is_some() { batch.labels.to_vec() } else { Vec::new() }
    }

    fn start_from(&mut self, start: &[f32]) -> Result<()> {
        if self.slots.labelled_chains.is_some() {
            return Err(Error::Data("chain starts cannot be given while train.p_x_y_weight is not 0".into()));
        }
        let Some(c) = &self.slots.chains else { return Ok(()) };
        if start.len() != c.chain.spec.len() {
            let (got, want) = (start.len(), c.chain.spec.len());
            return Err(Error::Data(format!("chain starts hold {got} values, not {want}")));
        }
        set(&mut self.state, c.chain, start)
    }

    /// Takes chains from the buffer, some of them restarted.
    fn begin(&mut self, labels: &[i32]) -> Result<[Draw; 2]> {
        let mut draws = [Draw::default(), Draw::default()];
        let (s, seed) = (&self.config.sampler, self.config.seed);
        let chains =
            [(&mut self.begin, &self.slots.chains), (&mut self.begin_labelled, &self.slots.labelled_chains)];
        for (k, (begin, chains)) in chains.into_iter().enumerate() {
            let Some(chains) = chains else { continue };
            let Some(begin) = begin else {
                return Err(Error::Data(
                    "a trainer without data needs the chains' starts at each step".into(),
                ));
            };
            let n = chains.chain.spec.first();
            let labels = (k == 1).then_some(labels);
            draws[k] = Draw::new(s, n, seed, self.counters.round, &self.offsets, labels);
            begin.run(&mut self.state, &draws[k], self.counters.round)?;
            self.counters.round = self.counters.round.wrapping_add(1);
        }
        Ok(draws)
    }

    fn update(
        &mut self,
        batch: &Batch<'_>,
        lr: f64,
        draws: Option<&[Draw; 2]>,
        chain_labels: &[i32],
    ) -> Result<StepMetrics> {
        if draws.is_none() && self.slots.buffer.is_some() && self.explicit.is_none() {
            let slots = Slots { buffer: None, ..self.slots.clone() };
            let sizes = Sizes { data: self.config.train.batch_size, labelled: labelled_size(&self.config) };
            let keep = self.options.keep_gradients;
            let p = Program::new(&self.device, &self.network, &self.config, &slots, sizes, keep)?;
            self.explicit = Some(p);
        }
        let program = match (draws, &mut self.explicit) {
            (None, Some(p)) => p,
            _ => &mut self.buffered,
        };
        let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        let double = self.options.dtype == DType::F64;
        let (data64, lab64) =
            if double { (wide(batch.x_data), wide(batch.x_labelled)) } else { Default::default() };
        let (lr64, lr32) = ([lr], [lr as f32]);
        let real = |x32, x64| if double { Host::F64(x64) } else { Host::F32(x32) };
        let i = program.inputs;
        let mut binds: Vec<(Var, Host<'_>)> = vec![
            (i.x_labelled, real(batch.x_labelled, &lab64)),
            (i.labels, Host::I32(batch.labels)),
            (i.lr, real(&lr32, &lr64)),
        ];
        binds.extend(i.x_data.map(|v| (v, real(batch.x_data, &data64))));
        binds.extend(i.chain_labels.map(|v| (v, Host::I32(chain_labels))));
        if let Some([a, b]) = draws {
            binds.extend(i.index.map(|v| (v, Host::I32(&a.index))));
            binds.extend(i.labelled_index.map(|v| (v, Host::I32(&b.index))));
        }
        program.plan.run(&mut self.state, &binds)?;
        self.counters.iteration += 1;
        let (o, plan) = (program.outputs, &program.plan);
        let energy = |v: Option<Var>| v.map_or(Ok(f64::NAN), |v| plan.scalar(v));
        Ok(StepMetrics {
            step: self.counters.iteration,
            loss: plan.scalar(o.loss)?,
            ce: plan.scalar(o.ce)?,
            log_density_data: energy(o.f_data)?,
            log_density_chain: energy(o.f_chain)?,
            accuracy: plan.scalar(o.accuracy)?,
            lr,
        })
    }

    fn check(&self, b: &Batch<'_>) -> Result<()> {
        let (pixels, classes) = (self.network.pixels(), self.config.model.classes);
        let m = labelled_size(&self.config);
        let n =
            if self.slots.chains.is_some() { self.config.train.batch_size } else { b.x_data.len() / pixels };
        for (name, x, want) in [("x_data", b.x_data, n), ("x_labelled", b.x_labelled, m)] {
            if x.len() != want * pixels {
                let got = x.len();
                return Err(Error::Data(format!("{name} holds {got} values, not {want} images of {pixels}")));
            }
            if let Some(i) = x.iter().position(|v| !v.is_finite()) {
                return Err(Error::Data(format!("{name} holds {} in image {}", x[i], i / pixels)));
            }
        }
        if b.labels.len() != m {
            return Err(Error::Data(format!("{} labels for {m} images", b.labels.len())));
        }
        match b.labels.iter().find(|l| usize::try_from(**l).map_or(true, |l| l >= classes)) {
            Some(l) => Err(Error::Data(format!("label {l} is not below model.classes = {classes}"))),
            None => Ok(()),
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

    /// All tensors, to be loaded.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// The counters.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Continues from these counters.
    pub fn set_counters(&mut self, c: Counters) {
        self.counters = c;
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

    /// Slots of the optimiser and the buffer with their names in a checkpoint.
    pub fn extra_slots(&self) -> Vec<(String, Slot)> {
        let velocity = self.network.parameters.iter().zip(&self.slots.velocity);
        let velocity = velocity.map(|(p, v)| (format!("velocity.{}", p.name), *v));
        velocity.chain(self.slots.buffer.map(|b| ("replay_buffer".to_owned(), b))).collect()
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
        let program = self.explicit.as_ref().unwrap_or(&self.buffered);
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
        Footprint {
            parameters: self.network.parameter_count(),
            state_bytes: self.state.bytes() as u64,
            program_bytes: (self.buffered.plan.bytes() + chain.iter().map(|p| p.bytes()).sum::<usize>())
                as u64,
            flops: self.buffered.plan.cost().flops + m * chain.iter().map(|p| p.cost().flops).sum::<u64>(),
        }
    }

    /// The plans as text, for debugging.
    pub fn dump(&self) -> String {
        let chain = self.langevin.as_ref().map(|l| l.plan().dump()).unwrap_or_default();
        format!("Langevin step\n{chain}\nTraining step\n{}", self.buffered.plan.dump())
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

/// Whether images and classes of a data set are those of the model.
///
/// # Errors
/// [`Error::Config`] saying which key to change.
pub fn check_fit(config: &Config, set: &Dataset) -> Result<()> {
    let m = &config.model;
    if set.size() != m.image_size {
        let (got, want) = (set.size(), m.image_size);
        let name = set.name();
        return Err(Error::Config(format!(
            "data set `{name}` has images of {got:?}, model.image_size is {want:?}; set model.image_size={got:?}"
        )));
    }
    if set.classes() != m.classes {
        let (name, got) = (set.name(), set.classes());
        return Err(Error::Config(format!(
            "data set `{name}` has {got} classes, model.classes is {}; set model.classes={got}",
            m.classes
        )));
    }
    Ok(())
}

fn make_slots(state: &mut State, network: &Network, config: &Config, data: bool) -> Result<Slots> {
    let t = &config.train;
    let velocity = network
        .parameters
        .iter()
        .map(|p| state.add(&format!("velocity.{}", p.name), p.slot.spec))
        .collect::<engine::Result<Vec<_>>>()?;
    let mut chains = |name: &str, n: usize, on: bool| -> Result<Option<Chains>> {
        if !on {
            return Ok(None);
        }
        let chain = state.add(name, network.images(n))?;
        Ok(Some(Chains { chain, accumulators: Accumulator::all(state, network, name)? }))
    };
    let px = t.p_x_weight != 0.0;
    let pxy = t.p_x_y_weight != 0.0;
    let unconditional = chains("chain", t.batch_size, px)?;
    let labelled_chains = chains("chain_y", labelled_size(config), pxy)?;
    let buffer = ((px || pxy) && data)
        .then(|| state.add("replay_buffer", network.images(config.sampler.buffer_size)))
        .transpose()?;
    let uniform_only = config.sampler.init == Init::Uniform;
    debug_assert!(data || buffer.is_none() || uniform_only);
    Ok(Slots { velocity, chains: unconditional, labelled_chains, buffer })
}
