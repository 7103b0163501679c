//! One iteration of a [`Trainer`]: what it is fed with, and its programs run as one sequence.
//!
//! Invariant: on a GPU nothing between the copies of an iteration's inputs and that of its metrics waits for the host.

use super::program::{Program, Sizes, Slots};
use super::{Batch, Picks, StepMetrics, Trainer, labelled_size};
use crate::error::{Error, Result};
use crate::network::set;
use crate::sampling::Draw;
use arrayvec::ArrayVec;
use engine::{DType, HostTensor, Part, Sequence, Var};

/// How an iteration is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// Images come from the training images, by number; else they are given.
    pub(super) picked: bool,
    /// Chains are given; else they come from the replay buffer and go back there.
    pub(super) started: bool,
}

/// The program for a way to feed an iteration, and the sequence that it ends.
#[derive(Debug)]
pub(super) struct Ready {
    way: Way,
    pub(super) program: Program,
    sequence: Sequence,
    /// The iteration that used it last.
    pub(super) last_used: u64,
}

/// An iteration whose metrics have not been taken.
#[derive(Debug)]
pub(super) struct InFlight {
    program: usize,
    step: u64,
    lr: f64,
}

/// What iterations are fed with and give, kept so that the memory is asked for once.
#[derive(Debug, Default)]
pub(super) struct Feed {
    data: Vec<i32>,
    labelled: Vec<i32>,
    labels: Vec<i32>,
    draws: [Draw; 2],
    metrics: Vec<f32>,
    wide: Vec<f64>,
}

/// Images of a batch, as the program takes them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Images<'a> {
    pub(super) data: HostTensor<'a>,
    pub(super) labelled: HostTensor<'a>,
}

impl Trainer {
    /// One iteration on images that are given: sampling, grouped pass, update.
    ///
    /// # Errors
    /// [`Error::Data`] for batches of a wrong size, a label out of range or a value that is not finite.
    pub fn step(&mut self, batch: &Batch<'_>, lr: f64) -> Result<StepMetrics> {
        self.check(batch)?;
        self.nothing_in_flight()?;
        if let Some(start) = batch.chain_start {
            self.start_from(start)?;
        }
        let way = Way { picked: false, started: batch.chain_start.is_some() };
        let mut draws = core::mem::take(&mut self.feed.draws);
        let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        if self.options.dtype == DType::F64 {
            let (data, labelled) = (wide(batch.x_data), wide(batch.x_labelled));
            let images = Images { data: HostTensor::F64(&data), labelled: HostTensor::F64(&labelled) };
            self.enqueue(way, images, batch.labels, &mut draws, lr)?;
        } else {
            let images =
                Images { data: HostTensor::F32(batch.x_data), labelled: HostTensor::F32(batch.x_labelled) };
            self.enqueue(way, images, batch.labels, &mut draws, lr)?;
        }
        self.feed.draws = draws;
        self.take_metrics()
    }

    /// One iteration on images of the data set, augmented as `data` of the configuration says.
    ///
    /// # Errors
    /// As [`Trainer::launch`].
    pub fn step_on(&mut self, picks: &Picks<'_>, lr: f64) -> Result<StepMetrics> {
        self.nothing_in_flight()?;
        self.launch(picks, lr)?;
        self.take_metrics()
    }

    /// Asks for one iteration on images of the data set. A GPU is not waited for; [`Trainer::take_metrics`] does that.
    ///
    /// # Errors
    /// [`Error::Data`] for batches of a wrong size, images that are not for training, or a trainer without data.
    pub fn launch(&mut self, picks: &Picks<'_>, lr: f64) -> Result<()> {
        let (n, m) = (self.config.train.batch_size, labelled_size(&self.config));
        let n = if self.slots.chains.is_some() { n } else { picks.data.len() };
        for (name, given, want) in [("data", picks.data.len(), n), ("labelled", picks.labelled.len(), m)] {
            if given != want {
                return Err(Error::Data(format!("{given} {name} images were picked, not {want}")));
            }
        }
        let row = |i: &u32| {
            let row = self.rows.get(*i as usize).filter(|r| **r >= 0);
            row.copied().ok_or_else(|| Error::Data(format!("image {i} is not one of the training images")))
        };
        let mut feed = core::mem::take(&mut self.feed);
        let picked = [(&mut feed.data, picks.data), (&mut feed.labelled, picks.labelled)];
        for (rows, picks) in picked {
            rows.clear();
            for i in picks {
                rows.push(row(i)?);
            }
        }
        // The training images lie sorted by class.
        let class = |row: &i32| self.offsets[1..].partition_point(|o| o <= row) as i32;
        feed.labels.clear();
        feed.labels.extend(feed.labelled.iter().map(class));
        let done = self.picked(&mut feed, lr);
        self.feed = feed;
        done
    }

    /// The iteration on the rows and labels in `feed`.
    fn picked(&mut self, feed: &mut Feed, lr: f64) -> Result<()> {
        let attacked = self.attacked(&feed.labelled, &feed.labels)?;
        let (images, picked) = match &attacked {
            Some(x) => (Images { data: HostTensor::F32(&[]), labelled: HostTensor::F32(x) }, false),
            None => (
                Images { data: HostTensor::I32(&feed.data), labelled: HostTensor::I32(&feed.labelled) },
                true,
            ),
        };
        self.enqueue(Way { picked, started: false }, images, &feed.labels, &mut feed.draws, lr)
    }

    /// Iterations asked for whose metrics have not been taken.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The metrics of the iteration asked for longest ago, waiting for it if need be.
    ///
    /// # Errors
    /// If there is none; what a GPU answers.
    pub fn take_metrics(&mut self) -> Result<StepMetrics> {
        let done = self.in_flight.pop_front();
        let done = done.ok_or_else(|| Error::Internal("no iteration is under way".into()))?;
        let program = &mut self.programs[done.program].program;
        let Feed { metrics, wide: v, .. } = &mut self.feed;
        if self.options.dtype == DType::F64 {
            program.plan.finish_readback(program.metrics, v)?;
        } else {
            program.plan.finish_readback(program.metrics, metrics)?;
            v.clear();
            v.extend(metrics.iter().map(|v| f64::from(*v)));
        }
        let energy = |i| v.get(i).copied().unwrap_or(f64::NAN);
        Ok(StepMetrics {
            step: done.step,
            loss: v[0],
            ce: v[1],
            accuracy: v[2],
            log_density_data: energy(3),
            log_density_chain: energy(4),
            lr: done.lr,
        })
    }

    /// Why an iteration could not become one CUDA graph, if it could not.
    pub fn capture_refused(&self) -> Option<&str> {
        self.programs.iter().find_map(|r| r.sequence.capture_refused())
    }

    fn nothing_in_flight(&self) -> Result<()> {
        if self.in_flight.is_empty() {
            return Ok(());
        }
        Err(Error::Internal("take the metrics of the iterations under way first".into()))
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

    /// The place of the program for `way`, made if it is not there.
    pub(super) fn ready(&mut self, way: Way) -> Result<usize> {
        if let Some(i) = self.programs.iter().position(|r| r.way == way) {
            return Ok(i);
        }
        let source = self.source.filter(|_| way.picked);
        if way.picked && source.is_none() {
            return Err(Error::Data("a trainer without data needs images at each step".into()));
        }
        let buffer = self.slots.buffer.filter(|_| !way.started);
        let slots = Slots { buffer, ..self.slots.clone() };
        let sizes = Sizes { data: self.config.train.batch_size, labelled: labelled_size(&self.config) };
        let keep = self.options.keep_gradients;
        let program = Program::new(&self.device, &self.network, &self.config, &slots, (source, sizes), keep)?;
        self.programs.push(Ready { way, program, sequence: Sequence::default(), last_used: 0 });
        Ok(self.programs.len() - 1)
    }

    /// Which rows of the buffer and which restarts this round's chains are, and the numbers of the rounds.
    fn draw(&mut self, labels: &[i32], draws: &mut [Draw; 2]) -> Result<[[i32; 1]; 2]> {
        let mut rounds = [[0]; 2];
        let chains = [(&self.begin, &self.slots.chains), (&self.begin_labelled, &self.slots.labelled_chains)];
        for (k, (begin, chains)) in chains.into_iter().enumerate() {
            let Some(chains) = chains else { continue };
            if begin.is_none() {
                let why = "a trainer without data needs the chains' starts at each step";
                return Err(Error::Data(why.into()));
            }
            let n = chains.chain.spec.first();
            let (round, seed) = (self.counters.round, self.config.seed);
            let labels = (k == 1).then_some(labels);
            draws[k].again(&self.config.sampler, n, seed, round, &self.offsets, labels);
            rounds[k] = [round as i32];
            self.counters.round = round.wrapping_add(1);
        }
        Ok(rounds)
    }

    /// Runs the iteration as one sequence and asks for its metrics.
    fn enqueue(
        &mut self,
        way: Way,
        images: Images<'_>,
        labels: &[i32],
        draws: &mut [Draw; 2],
        lr: f64,
    ) -> Result<()> {
        self.first_batch(way, images)?;
        let at = self.ready(way)?;
        let rounds = if way.started { Default::default() } else { self.draw(labels, draws)? };
        let step = [self.counters.iteration as i32];
        let (lr64, lr32) = ([lr], [lr as f32]);
        let rate =
            if self.options.dtype == DType::F64 { HostTensor::F64(&lr64) } else { HostTensor::F32(&lr32) };
        let Ready { program, sequence, last_used, .. } = &mut self.programs[at];
        let i = program.inputs;
        let mut binds: ArrayVec<(Var, HostTensor<'_>), 8> = ArrayVec::from_iter([
            (i.labelled, images.labelled),
            (i.labels, HostTensor::I32(labels)),
            (i.lr, rate),
        ]);
        binds.extend(i.data.map(|v| (v, images.data)));
        binds.extend(i.step.map(|v| (v, HostTensor::I32(&step))));
        binds.extend(i.chain_labels.map(|v| (v, HostTensor::I32(labels))));
        binds.extend(i.index.map(|v| (v, HostTensor::I32(&draws[0].index))));
        binds.extend(i.labelled_index.map(|v| (v, HostTensor::I32(&draws[1].index))));

        let begins = [&mut self.begin, &mut self.begin_labelled].map(|b| b.as_mut().filter(|_| !way.started));
        let starts = [0, 1].map(|k| begins[k].as_ref().map(|b| b.inputs(&draws[k], &rounds[k])));
        let moves = [&mut self.langevin, &mut self.langevin_labelled].map(Option::as_mut);
        let followed = moves.each_ref().map(|l| l.as_ref().map(|l| l.inputs(labels)));
        let times = self.config.sampler.outer_steps;
        let mut parts = ArrayVec::<Part<'_>, 5>::new();
        for (begin, inputs) in begins.into_iter().zip(&starts) {
            if let (Some(b), Some(inputs)) = (begin, inputs) {
                parts.push(Part { plan: b.plan_mut(), inputs, times: 1 });
            }
        }
        for (langevin, inputs) in moves.into_iter().zip(&followed) {
            if let (Some(l), Some(inputs)) = (langevin, inputs) {
                parts.push(Part { plan: l.plan_mut(), inputs, times });
                self.counters.chain_step = self.counters.chain_step.wrapping_add(times as u32);
            }
        }
        parts.push(Part { plan: &mut program.plan, inputs: &binds, times: 1 });
        sequence.run(&mut self.state, &mut parts)?;
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
