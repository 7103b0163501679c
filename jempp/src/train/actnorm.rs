//! The data-dependent start of ActNorm (Kingma & Dhariwal, 2018, in the form of the published JEM code): loc = −mean and
//! scale = 1/(standard deviation + 1e-6) of each channel over the first training batch.
//!
//! What must hold: it happens once, before iteration 0, from that iteration's batch alone; so a checkpoint needs no flag
//! beside the counters.

use super::program::augmentation;
use super::step::{Images, Way};
use super::{Trainer, labelled_size};
use crate::config::NormKind;
use crate::error::Result;
use crate::sampling::unbias;
use engine::ops::bn_stats::BnStats;
use engine::{DType, HostTensor, Plan, Slot, Spec, Tape, Var};

/// Added to standard deviations.
const EPS: f64 = 1e-6;

impl Trainer {
    /// Sets the ActNorms by the images for p(x), or where it is not trained by the labelled ones, without dropout. The
    /// layers follow one another, each on the output of those before: as many forward passes as there are layers.
    pub(super) fn first_batch(&mut self, way: Way, images: Images<'_>) -> Result<()> {
        if self.network.config.norm != NormKind::Act || self.counters.iteration > 0 {
            return Ok(());
        }
        let of_data = self.slots.chains.is_some();
        let (given, n) = match of_data {
            true => (images.data, self.config.train.batch_size),
            false => (images.labelled, labelled_size(&self.config)),
        };
        let mut tape = Tape::new();
        let mut binds = Vec::new();
        let x = match self.source.filter(|_| way.picked) {
            None => {
                let x = tape.input("x", self.network.images(n));
                binds.push((x, given));
                x
            }
            Some(source) => {
                let [index, step] = [n, 1].map(|k| tape.input("index", Spec::i32(&[k])));
                binds.extend([(index, given), (step, HostTensor::I32(&[0]))]);
                let (args, stream) = augmentation(&self.config.data, of_data);
                source.batch(&mut tape, args, stream, index, step)?
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
        self.slots.update.start_average(&mut self.state, &self.network)
    }
}

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
