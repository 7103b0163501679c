//! One iteration of a [`TrainStep`]: its host inputs, and its programs run as one sequence.
//!
//! Invariant: on a GPU nothing waits for the host between the copies of an iteration's inputs and the copy of its metrics.

use super::program::{BatchSizes, Inputs, Program, TrainSlots, Variant};
use super::{Batch, BatchIndices, StepMetrics, TrainStep, labelled_size};
use crate::error::{Error, Result};
use crate::network::set;
use crate::sampling::RoundPlan;
use arrayvec::ArrayVec;
use engine::{DType, HostTensor, Part, Sequence, Var};

/// Which host inputs an iteration takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InputMode {
    /// The host gives rows of the training images; else the images themselves.
    pub(super) by_row: bool,
    /// The host gives the starts of the chains; else chains come from the replay buffer and are written back there.
    pub(super) chains_given: bool,
}

/// The compiled program for one input mode, and the sequence whose last part it is.
#[derive(Debug)]
pub(super) struct ModeProgram {
    pub(super) mode: InputMode,
    /// Whether the gradient is taken at the weights that ASAM perturbs.
    pub(super) sam: bool,
    pub(super) program: Program,
    pub(super) sequence: Sequence,
    /// The iteration that last used it.
    pub(super) last_used: u64,
}

/// An iteration whose metrics have not been taken yet.
#[derive(Debug)]
pub(super) struct InFlight {
    program: usize,
    step: u64,
    lr: f64,
}

/// Host buffers of iterations, kept so that they are allocated once.
#[derive(Debug, Default)]
pub(super) struct StepBuffers {
    /// Rows of the images for log p(x) and of the labelled ones.
    data: Vec<i32>,
    labelled: Vec<i32>,
    labels: Vec<i32>,
    /// The random choices for the chains of log p(x), and for those of log p(x, y).
    rounds: [RoundPlan; 2],
    metrics: Vec<f32>,
    metrics_f64: Vec<f64>,
}

/// The images of an iteration, or their rows, as the program takes them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Images<'a> {
    pub(super) data: HostTensor<'a>,
    pub(super) labelled: HostTensor<'a>,
}

impl TrainStep {
    /// One iteration on given images, which are not augmented: sampling, grouped pass, update with the learning rate `lr`.
    ///
    /// # Errors
    /// [`Error::Data`] for batches of a wrong size, a label out of range or a value that is not finite.
    pub fn step(&mut self, batch: &Batch<'_>, lr: f64) -> Result<StepMetrics> {
        self.check(batch)?;
        self.check_none_in_flight()?;
        if let Some(start) = batch.chain_start {
            self.set_chains(start)?;
        }
        let mode = InputMode { by_row: false, chains_given: batch.chain_start.is_some() };
        let mut rounds = core::mem::take(&mut self.buffers.rounds);
        let to_f64 = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        if self.options.dtype == DType::F64 {
            let (data, labelled) = (to_f64(batch.x_data), to_f64(batch.x_labelled));
            let images = Images { data: HostTensor::F64(&data), labelled: HostTensor::F64(&labelled) };
            self.enqueue(mode, images, batch.labels, &mut rounds, lr)?;
        } else {
            let images =
                Images { data: HostTensor::F32(batch.x_data), labelled: HostTensor::F32(batch.x_labelled) };
            self.enqueue(mode, images, batch.labels, &mut rounds, lr)?;
        }
        self.buffers.rounds = rounds;
        self.take_metrics()
    }

    /// One iteration on images of the data set, augmented as configured in `data`, with the learning rate `lr`.
    ///
    /// # Errors
    /// Those of [`TrainStep::launch`].
    pub fn step_on(&mut self, batch: &BatchIndices<'_>, lr: f64) -> Result<StepMetrics> {
        self.check_none_in_flight()?;
        self.launch(batch, lr)?;
        self.take_metrics()
    }

    /// Starts an iteration on images of the data set without waiting for a GPU to finish it; [`TrainStep::take_metrics`]
    /// waits.
    ///
    /// # Errors
    /// [`Error::Data`] for batches of a wrong size, for images that are not training images, and without a data set.
    pub fn launch(&mut self, batch: &BatchIndices<'_>, lr: f64) -> Result<()> {
        let (n, m) = (self.config.train.batch_size, labelled_size(&self.config));
        let n = if self.slots.chains.is_some() { n } else { batch.data.len() };
        for (name, given, want) in [("data", batch.data.len(), n), ("labelled", batch.labelled.len(), m)] {
            if given != want {
                return Err(Error::Data(format!("{given} {name} images were given, not {want}")));
            }
        }
        let row = |i: &u32| {
            let row = self.rows.get(*i as usize).filter(|r| **r >= 0);
            row.copied().ok_or_else(|| Error::Data(format!("image {i} is not one of the training images")))
        };
        let mut buffers = core::mem::take(&mut self.buffers);
        let both = [(&mut buffers.data, batch.data), (&mut buffers.labelled, batch.labelled)];
        for (rows, indices) in both {
            rows.clear();
            for i in indices {
                rows.push(row(i)?);
            }
        }
        // The training images are sorted by class.
        let class = |row: &i32| self.offsets[1..].partition_point(|o| o <= row) as i32;
        buffers.labels.clear();
        buffers.labels.extend(buffers.labelled.iter().map(class));
        let result = self.enqueue_rows(&mut buffers, lr);
        self.buffers = buffers;
        result
    }

    /// Starts the iteration on the rows and labels in `buffers`; in adversarial training on the attacked images.
    fn enqueue_rows(&mut self, buffers: &mut StepBuffers, lr: f64) -> Result<()> {
        let attacked = self.attacked(&buffers.labelled, &buffers.labels)?;
        let (images, by_row) = match &attacked {
            Some(x) => (Images { data: HostTensor::F32(&[]), labelled: HostTensor::F32(x) }, false),
            None => (
                Images { data: HostTensor::I32(&buffers.data), labelled: HostTensor::I32(&buffers.labelled) },
                true,
            ),
        };
        let mode = InputMode { by_row, chains_given: false };
        self.enqueue(mode, images, &buffers.labels, &mut buffers.rounds, lr)
    }

    /// Iterations that were started and whose metrics have not been taken yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The metrics of the oldest iteration whose metrics have not been taken yet; waits until it is done.
    ///
    /// # Errors
    /// If there is no such iteration, or a GPU fails.
    pub fn take_metrics(&mut self) -> Result<StepMetrics> {
        let done = self.in_flight.pop_front();
        let done = done.ok_or_else(|| Error::Internal("no iteration is in flight".into()))?;
        let program = &mut self.programs[done.program].program;
        let StepBuffers { metrics, metrics_f64: v, .. } = &mut self.buffers;
        if self.options.dtype == DType::F64 {
            program.plan.finish_readback(program.metrics, v)?;
        } else {
            program.plan.finish_readback(program.metrics, metrics)?;
            v.clear();
            v.extend(metrics.iter().map(|v| f64::from(*v)));
        }
        let log_density = |i| v.get(i).copied().unwrap_or(f64::NAN);
        Ok(StepMetrics {
            step: done.step,
            loss: v[0],
            ce: v[1],
            accuracy: v[2],
            log_density_data: log_density(3),
            log_density_chain: log_density(4),
            lr: done.lr,
        })
    }

    /// Why an iteration could not be captured as a CUDA graph, if that failed.
    pub fn capture_refused(&self) -> Option<&str> {
        self.programs.iter().find_map(|r| r.sequence.capture_refused())
    }

    /// [`Error::Internal`] if there are iterations whose metrics have not been taken yet.
    fn check_none_in_flight(&self) -> Result<()> {
        if self.in_flight.is_empty() {
            return Ok(());
        }
        Err(Error::Internal("take the metrics of the iterations in flight first".into()))
    }

    /// Sets the chains to their given starts.
    fn set_chains(&mut self, start: &[f32]) -> Result<()> {
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

    /// The index of the program for `mode` with ASAM or without, which is compiled on first use.
    pub(super) fn program_for(&mut self, mode: InputMode, sam: bool) -> Result<usize> {
        if let Some(i) = self.programs.iter().position(|r| r.mode == mode && r.sam == sam) {
            return Ok(i);
        }
        let training = self.training.filter(|_| mode.by_row);
        if mode.by_row && training.is_none() {
            return Err(Error::Data("without a data set the images must be given to each step".into()));
        }
        let buffer = self.slots.buffer.filter(|_| !mode.chains_given);
        let slots = TrainSlots { buffer, ..self.slots.clone() };
        let sizes = BatchSizes { data: self.config.train.batch_size, labelled: labelled_size(&self.config) };
        let variant = Variant { sam, keep_gradients: self.options.keep_gradients };
        let program =
            Program::new(&self.device, &self.network, &self.config, &slots, (training, sizes), variant)?;
        self.programs.push(ModeProgram { mode, sam, program, sequence: Sequence::default(), last_used: 0 });
        Ok(self.programs.len() - 1)
    }

    /// Draws where this iteration's chains start; returns the numbers of the sampling rounds.
    fn plan_rounds(&mut self, labels: &[i32], plans: &mut [RoundPlan; 2]) -> Result<[[i32; 1]; 2]> {
        let mut rounds = [[0]; 2];
        let chains = [(&self.init, &self.slots.chains), (&self.init_labelled, &self.slots.labelled_chains)];
        for (k, (init, chains)) in chains.into_iter().enumerate() {
            let Some(chains) = chains else { continue };
            if init.is_none() {
                let why = "without a data set the chains' starts must be given to each step";
                return Err(Error::Data(why.into()));
            }
            let n = chains.chain.spec.first();
            let (round, seed) = (self.counters.round, self.noise_seed());
            let labels = (k == 1).then_some(labels);
            plans[k].redraw(&self.config.sampler, n, seed, round, &self.offsets, labels);
            rounds[k] = [round as i32];
            self.counters.round = round.wrapping_add(1);
        }
        Ok(rounds)
    }

    /// Starts the iteration as one sequence, and the copy of its metrics to the host.
    fn enqueue(
        &mut self,
        mode: InputMode,
        images: Images<'_>,
        labels: &[i32],
        plans: &mut [RoundPlan; 2],
        lr: f64,
    ) -> Result<()> {
        self.initialise_actnorm(mode, images)?;
        let t = &self.config.train;
        let sam = t.sam_rho > 0.0 && self.counters.iteration.is_multiple_of(t.sam_every as u64);
        let at = self.program_for(mode, sam)?;
        let rounds = if mode.chains_given { Default::default() } else { self.plan_rounds(labels, plans)? };
        let step = [self.counters.iteration as i32];
        let factors = [lr, self.p_x_ramp()];
        let narrow = factors.map(|v| v as f32);
        let [rate, ramp] = [0, 1].map(|k| match self.options.dtype {
            DType::F64 => HostTensor::F64(&factors[k..=k]),
            _ => HostTensor::F32(&narrow[k..=k]),
        });
        let ModeProgram { program, sequence, last_used, .. } = &mut self.programs[at];
        let bound = |inputs| bind(inputs, images, labels, &step, plans, [rate, ramp]);
        let (binds, ahead_binds) = (bound(&program.inputs), program.ahead.as_ref().map(|a| bound(&a.inputs)));

        let inits = [&mut self.init, &mut self.init_labelled];
        let inits = inits.map(|i| i.as_mut().filter(|_| !mode.chains_given));
        let starts = [0, 1].map(|k| inits[k].as_ref().map(|i| i.inputs(&plans[k], &rounds[k])));
        let chain_steps = [&mut self.langevin, &mut self.langevin_labelled].map(Option::as_mut);
        let followed = chain_steps.each_ref().map(|l| l.as_ref().map(|l| l.inputs(labels)));
        let times = self.config.sampler.outer_steps;
        let mut parts = ArrayVec::<Part<'_>, 5>::new();
        for (init, inputs) in inits.into_iter().zip(&starts) {
            if let (Some(i), Some(inputs)) = (init, inputs) {
                parts.push(Part { plan: i.plan_mut(), inputs, times: 1 });
            }
        }
        for (langevin, inputs) in chain_steps.into_iter().zip(&followed) {
            if let (Some(l), Some(inputs)) = (langevin, inputs) {
                parts.push(Part { plan: l.plan_mut(), inputs, times });
                self.counters.chain_step = self.counters.chain_step.wrapping_add(times as u32);
            }
        }
        let ahead = program.ahead.as_mut().zip(ahead_binds.as_ref());
        let ahead = ahead.map(|(a, inputs)| Part { plan: &mut a.plan, inputs, times: 1 });
        parts.push(Part { plan: &mut program.plan, inputs: &binds, times: 1 });
        sequence.run_beside(&mut self.state, ahead, &mut parts)?;
        drop(parts);
        match self.options.dtype {
            DType::F64 => program.plan.start_readback::<f64>(program.metrics)?,
            _ => program.plan.start_readback::<f32>(program.metrics)?,
        }
        self.counters.iteration += 1;
        *last_used = self.counters.iteration;
        self.in_flight.push_back(InFlight { program: at, step: self.counters.iteration, lr });
        Ok(())
    }

    /// Checks sizes, values and labels of given batches.
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
}

/// The host inputs of the training program.
fn bind<'a>(
    inputs: &Inputs,
    images: Images<'a>,
    labels: &'a [i32],
    step: &'a [i32; 1],
    plans: &'a [RoundPlan; 2],
    [rate, ramp]: [HostTensor<'a>; 2],
) -> ArrayVec<(Var, HostTensor<'a>), 9> {
    let i = inputs;
    let required = [(i.labelled, images.labelled), (i.labels, HostTensor::I32(labels)), (i.lr, rate)];
    let mut binds = ArrayVec::from_iter(required);
    binds.extend(i.data.map(|v| (v, images.data)));
    binds.extend(i.p_x_ramp.map(|v| (v, ramp)));
    binds.extend(i.step.map(|v| (v, HostTensor::I32(step))));
    binds.extend(i.chain_labels.map(|v| (v, HostTensor::I32(labels))));
    binds.extend(i.index.map(|v| (v, HostTensor::I32(&plans[0].index))));
    binds.extend(i.labelled_index.map(|v| (v, HostTensor::I32(&plans[1].index))));
    binds
}
