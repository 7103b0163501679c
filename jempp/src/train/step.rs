//! One iteration of a [`Trainer`].

use super::program::{Program, Sizes, Slots};
use super::{Batch, StepMetrics, Trainer, labelled_size};
use crate::error::{Error, Result};
use crate::model::set;
use crate::sampler::Draw;
use engine::{DType, Host, Var};

impl Trainer {
    /// One iteration: sampling, grouped pass, update.
    ///
    /// # Errors
    /// [`Error::Data`] for batches of a wrong size, a label out of range or a value that is not finite.
    pub fn step(&mut self, batch: &Batch<'_>, lr: f64) -> Result<StepMetrics> {
        self.check(batch)?;
        self.first_batch(batch)?;
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
        let iteration = [self.counters.iteration as i32];
        binds.extend(i.iteration.map(|v| (v, Host::I32(&iteration))));
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
}
