//! Data-dependent initialisation of ActNorm (Kingma & Dhariwal, 2018, in the form of the published JEM code): loc = −mean
//! and scale = 1/(standard deviation + 1e-6) of each channel over the first training batch.
//!
//! Invariant: it happens once, before iteration 0, and depends on that iteration's batch alone. It does not happen where the
//! weights are those of a model.

use super::iteration::{Images, InputMode};
use super::program::augmentation;
use super::{TrainStep, labelled_size};
use crate::config::NormKind;
use crate::error::Result;
use crate::sampling::unbias;
use engine::ops::bn_stats::BnStats;
use engine::{DType, HostTensor, Plan, Slot, Spec, Tape, Var};

/// Added to standard deviations.
const EPS: f64 = 1e-6;

impl TrainStep {
    /// Initialises the ActNorm layers from the images for log p(x), or if that is not trained from the labelled ones, without
    /// dropout. Each layer is initialised on the output of those before, so there are as many forward passes as layers.
    pub(super) fn initialise_actnorm(&mut self, mode: InputMode, images: Images<'_>) -> Result<()> {
        let done = self.keep_actnorm || self.counters.iteration > 0;
        if self.network.config.norm != NormKind::Act || done {
            return Ok(());
        }
        let of_data = self.slots.chains.is_some();
        let (given, n) = match of_data {
            true => (images.data, self.config.train.batch_size),
            false => (images.labelled, labelled_size(&self.config)),
        };
        let mut tape = Tape::new();
        let mut binds = Vec::new();
        let x = match self.training.filter(|_| mode.by_row) {
            None => {
                let x = tape.input("x", self.network.images(n));
                binds.push((x, given));
                x
            }
            Some(training) => {
                let [index, step] = [n, 1].map(|k| tape.input("index", Spec::i32(&[k])));
                binds.extend([(index, given), (step, HostTensor::I32(&[0]))]);
                let (args, stream) = augmentation(&self.config.data, of_data);
                training.batch(&mut tape, args, stream, index, step)?
            }
        };
        let inputs = self.network.forward(&mut tape, x, &crate::network::BnMode::Running)?.normed;
        let mut outputs = Vec::new();
        let mut rows = Vec::new();
        for v in inputs {
            let spec = tape.spec(v)?;
            rows.push(spec.rows());
            outputs.extend(tape.record(BnStats { groups: vec![n] }, &[v])?);
        }
        let mut plan = tape.plan(&self.device, &outputs)?;
        for (k, affine) in self.network.affine.iter().enumerate() {
            let Some([loc, scale]) = affine.map(|a| a.map(|p| self.network.parameters[p].slot)) else {
                continue;
            };
            plan.run_shared(&self.state, &binds)?;
            let (mean, var) = (fetch(&plan, outputs[2 * k])?, fetch(&plan, outputs[2 * k + 1])?);
            let correct = unbias(&[rows[k]])[0];
            put(&mut self.state, loc, mean.iter().map(|m| -m))?;
            put(&mut self.state, scale, var.iter().map(|v| 1.0 / ((v * correct).sqrt() + EPS)))?;
        }
        self.slots.update.reset_average(&mut self.state, &self.network)
    }
}

/// An output of either float type.
fn fetch(plan: &Plan, v: Var) -> Result<Vec<f64>> {
    Ok(match plan.fetch::<f64>(v) {
        Ok(values) => values,
        Err(_) => plan.fetch::<f32>(v)?.into_iter().map(f64::from).collect(),
    })
}

/// Sets a slot of either float type.
fn put(state: &mut engine::State, slot: Slot, values: impl Iterator<Item = f64>) -> Result<()> {
    match slot.spec.dtype {
        DType::F64 => state.set(slot, &values.collect::<Vec<_>>())?,
        _ => state.set(slot, &values.map(|v| v as f32).collect::<Vec<_>>())?,
    }
    Ok(())
}
