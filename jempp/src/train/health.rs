//! The health of a training's state: whether its values are finite, how large updates are, where the chains are.
//!
//! On a CPU it is looked at after every iteration, as the state lies in memory and reading it costs far less than an
//! iteration. On a GPU it would have to be copied: there it is looked at when a snapshot is taken or a checkpoint is due.

use super::TrainStep;
use crate::error::Result;
use crate::model::REPLAY_BUFFER;
use crate::network::get;
use engine::{DType, Slot};
use std::borrow::Cow;

/// A value at least this far from 0 is at a face of the box: the noise of chains moves some of them off it.
pub(super) const FACE: f32 = 0.98;

/// What [`TrainStep::health`] finds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Health {
    /// The tensor that holds a value that is not finite, if there is one.
    pub(crate) not_finite: Option<String>,
    /// Euclidean norm of the optimiser's running mean of gradients.
    pub(crate) update: Option<f64>,
    /// Fractions of the values of the chains, and of the data, at a face of the box [−1, 1].
    pub(crate) saturation: Option<[f64; 2]>,
}

impl TrainStep {
    /// The health of the state; `whole` includes the replay buffer and the averages of the weights.
    ///
    /// # Errors
    /// If a GPU fails.
    pub(crate) fn health(&self, whole: bool) -> Result<Health> {
        let mut health = Health::default();
        let gradients = self.slots.update.gradient_means();
        let extra = self.extra_slots().into_iter().filter(|(name, slot)| {
            let moment = gradients.contains(slot) || !name.starts_with("ema.");
            whole || (moment && name != REPLAY_BUFFER)
        });
        let mut squares = 0.0;
        for (name, slot) in self.network.tensors().chain(extra) {
            let values = self.values(slot)?;
            if gradients.contains(&slot) {
                squares += sum_of_squares(&values);
            }
            if !finite(&values) {
                health.not_finite = Some(format!("`{name}`"));
                return Ok(health);
            }
        }
        health.update = (!gradients.is_empty()).then(|| squares.sqrt());
        if let (Some(chains), true) = (&self.slots.chains, self.config.sampler.in_box) {
            let x = self.values(chains.chain)?;
            if !finite(&x) {
                health.not_finite = Some("the chains".into());
                return Ok(health);
            }
            let at = x.iter().filter(|v| v.abs() >= FACE).count();
            health.saturation = self.data_saturation.map(|data| [at as f64 / x.len() as f64, data]);
        }
        Ok(health)
    }

    /// The values of a slot; those of float32 on the CPU are not copied.
    fn values(&self, slot: Slot) -> Result<Cow<'_, [f32]>> {
        match slot.spec.dtype {
            DType::F32 => Ok(self.state.view::<f32>(slot)?),
            _ => Ok(Cow::Owned(get(&self.state, slot)?)),
        }
    }
}

/// Whether all values are finite. The largest exponent tells, without a branch for each value.
fn finite(values: &[f32]) -> bool {
    let largest = |c: &[f32]| c.iter().fold(0, |m: u32, v| m.max(v.to_bits() & 0x7fff_ffff));
    values.chunks(256).all(|c| largest(c) < f32::INFINITY.to_bits())
}

fn sum_of_squares(values: &[f32]) -> f64 {
    values.chunks(64).map(|c| f64::from(c.iter().map(|v| v * v).sum::<f32>())).sum()
}

/// The fraction of pixels at a face of the box.
pub(super) fn saturation(bytes: &[u8]) -> f64 {
    let at = |u: &&u8| jempp_formats::pixels::value(**u).abs() >= FACE;
    bytes.iter().filter(at).count() as f64 / bytes.len().max(1) as f64
}
