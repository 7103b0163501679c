//! What rollbacks have changed: learning rate, step size and random numbers of a training step.
//!
//! Invariant: without a rollback nothing differs from the configuration, to the bit.

use super::TrainStep;
use super::step::langevin_of;
use crate::config::SamplerConfig;
use crate::error::Result;
use crate::sampling;
use crate::streams;
use engine::Sequence;
use engine::ops::noise::seed_words;
use serde::{Deserialize, Serialize};

/// The fraction of the replay buffer that a rollback restarts at least.
const RESTARTED: f64 = 0.1;

/// The changes that rollbacks have made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Number of rollbacks, which selects the stream of random numbers.
    pub rollbacks: u32,
    /// How often the learning rate has been multiplied by `train.rollback_factor`.
    pub lr_cuts: u32,
    /// How often the step size of the chains has been multiplied by `train.rollback_factor`.
    pub step_cuts: u32,
}

impl Recovery {
    /// The factors of the learning rate and of the step size.
    pub fn factors(&self, factor: f64) -> [f64; 2] {
        [self.lr_cuts, self.step_cuts].map(|n| factor.powi(n as i32))
    }
}

/// The seed of random numbers after a number of rollbacks.
fn seed_after(seed: u64, rollbacks: u32) -> u64 {
    // The odd multiplier spreads the number over all bits; 0 leaves the seed as it is.
    seed ^ u64::from(rollbacks).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl TrainStep {
    /// What rollbacks have changed.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// The seed of the random numbers of iterations.
    pub(super) fn noise_seed(&self) -> u64 {
        seed_after(self.config.seed, self.recovery.rollbacks)
    }

    /// Lowers learning rate and step size as `recovery` says, and takes its random numbers.
    ///
    /// # Errors
    /// If there is no memory.
    pub(super) fn set_recovery(&mut self, recovery: Recovery) -> Result<()> {
        let steps_change = recovery.step_cuts != self.recovery.step_cuts;
        self.recovery = recovery;
        self.state.set(self.slots.seed, &seed_words(self.noise_seed()))?;
        if !steps_change {
            return Ok(());
        }
        let [_, factor] = recovery.factors(self.config.train.rollback_factor);
        let s = &self.config.sampler;
        let sampler =
            SamplerConfig { step_size: s.step_size * factor, sgld_lr: s.sgld_lr * factor, ..s.clone() };
        let words = [self.slots.seed, self.chain_step];
        let program =
            |c, conditional| langevin_of(c, &sampler, &self.device, &self.network, words, conditional);
        let chains = self.slots.chains.as_ref().map(|c| program(c, false)).transpose()?;
        let labelled = self.slots.labelled_chains.as_ref().map(|c| program(c, true)).transpose()?;
        (self.langevin, self.langevin_labelled) = (chains, labelled);
        // Graphs of the old programs are of no use.
        self.programs.iter_mut().for_each(|p| p.sequence = Sequence::default());
        Ok(())
    }

    /// Restarts the chains of the replay buffer that are furthest out: a tenth of them, those with most values at a face of
    /// the box first, and all that are at the faces further than data are.
    ///
    /// # Errors
    /// If there is no memory.
    pub(super) fn restart_worst_chains(&mut self) -> Result<()> {
        let (Some(buffer), Some(images)) = (self.slots.buffer, self.training) else { return Ok(()) };
        let (rows, width) = (buffer.spec.first(), buffer.spec.row_len());
        let values = self.state.view::<f32>(buffer)?;
        let out = |row: &[f32]| {
            let at = row.iter().filter(|v| !v.is_finite() || v.abs() >= super::health::FACE).count();
            at as f64 / width as f64
        };
        let mut worst: Vec<(f64, usize)> =
            values.chunks_exact(width).enumerate().map(|(i, r)| (out(r), i)).collect();
        worst.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let limit = (1.0 + self.data_saturation.unwrap_or(0.0)) / 2.0;
        let least = (RESTARTED * rows as f64).ceil() as usize;
        let beyond = worst.iter().filter(|w| w.0 > limit).count();
        worst.truncate(least.max(beyond));
        let classes = self.config.model.classes;
        let class: Vec<i32> = worst.iter().map(|(_, i)| (i * classes / rows) as i32).collect();
        // The seed is that of this rollback; the filling of the buffer numbers its chunks from 0.
        let random = (streams::BUFFER_FILL, u32::MAX);
        let init = self.config.sampler.init;
        let fresh =
            sampling::fresh(&self.device, &mut self.state, images, buffer.spec, &class, init, random)?;
        for ((_, i), x) in worst.iter().zip(fresh.chunks_exact(width)) {
            self.state.set_at(buffer, i * width, x)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rollback_changes_nothing_and_each_has_numbers_of_its_own() {
        assert_eq!(seed_after(7, 0), 7);
        let seeds: std::collections::BTreeSet<u64> = (0..100).map(|k| seed_after(7, k)).collect();
        assert_eq!(seeds.len(), 100);
        assert_eq!(Recovery::default().factors(0.5), [1.0, 1.0]);
        let r = Recovery { rollbacks: 3, lr_cuts: 2, step_cuts: 1 };
        assert_eq!(r.factors(0.5), [0.25, 0.5]);
    }
}
