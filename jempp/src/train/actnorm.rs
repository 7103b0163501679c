//! The data-dependent start of ActNorm (Kingma & Dhariwal, 2018, in the form of the published JEM code): loc = −mean and
//! scale = 1/(standard deviation + 1e-6) of each channel over the first training batch.
//!
//! What must hold: it happens once, before iteration 0, from that iteration's batch alone; so a checkpoint needs no flag
//! beside the counters.

use super::{Batch, Trainer};
use crate::config::NormKind;
use crate::error::Result;
use crate::sampler::unbias;
use engine::ops::bn_stats::BnStats;
use engine::{DType, Host, Plan, Slot, Tape, Var};

/// Added to standard deviations.
const EPS: f64 = 1e-6;

impl Trainer {
    /// Sets the ActNorms by the images for p(x), or where it is not trained by the labelled ones, without dropout. The
    /// layers follow one another, each on the output of those before: as many forward passes as there are layers.
    pub(super) fn first_batch(&mut self, batch: &Batch<'_>) -> Result<()> {
        if self.network.config.norm != NormKind::Act || self.counters.iteration > 0 {
            return Ok(());
        }
        let images = if self.slots.chains.is_some() { batch.x_data } else { batch.x_labelled };
        let n = images.len() / self.network.pixels();
        let mut tape = Tape::new();
        let x = tape.input("x", self.network.images(n));
        let inputs = self.network.forward(&mut tape, x, &crate::model::BnMode::Running)?.normed;
        let mut outputs = Vec::new();
        let mut rows = Vec::new();
        for v in inputs {
            let spec = tape.spec(v)?;
            rows.push(spec.rows());
            outputs.extend(tape.record(BnStats { groups: vec![n] }, &[v])?);
        }
        let mut plan = tape.plan(&self.device, &outputs)?;
        let wide: Vec<f64> = images.iter().map(|v| f64::from(*v)).collect();
        let host = if self.options.dtype == DType::F64 { Host::F64(&wide) } else { Host::F32(images) };
        for (k, affine) in self.network.affine.iter().enumerate() {
            let Some([loc, scale]) = affine.map(|a| a.map(|p| self.network.parameters[p].slot)) else {
                continue;
            };
            plan.run_shared(&self.state, &[(x, host)])?;
            let (mean, var) = (fetch(&plan, outputs[2 * k])?, fetch(&plan, outputs[2 * k + 1])?);
            let correct = unbias(&[rows[k]])[0];
            put(&mut self.state, loc, mean.iter().map(|m| -m))?;
            put(&mut self.state, scale, var.iter().map(|v| 1.0 / ((v * correct).sqrt() + EPS)))?;
        }
        Ok(())
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
