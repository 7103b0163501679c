//! Schedules: the learning rate, which is warmed up and then falls by steps, by a cosine or not at all, and the ramp of
//! the weight of log p(x).

use super::TrainStep;
use crate::config::Schedule;

impl TrainStep {
    /// The learning rate of the next iteration of a run of `total` iterations, `per_epoch` of them per epoch.
    ///
    /// Rollbacks lower it.
    pub fn learning_rate(&self, per_epoch: u64, total: u64) -> f64 {
        let [factor, _] = self.recovery.factors(self.config.train.rollback_factor);
        factor * self.scheduled_rate(per_epoch, total)
    }

    fn scheduled_rate(&self, per_epoch: u64, total: u64) -> f64 {
        let (t, i) = (&self.config.train, self.counters.iteration - self.began);
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
                // Where the warm-up is as long as the run, no iterations are left for the cosine.
                let done = (i - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
                let fraction = 0.5 * (1.0 + (core::f64::consts::PI * done.min(1.0)).cos());
                t.lr_min + (t.lr - t.lr_min) * fraction
            }
            Schedule::Constant => t.lr,
        }
    }

    /// The factor of `train.p_x_weight` in the next iteration.
    pub(super) fn p_x_ramp(&self) -> f64 {
        let (i, warmup) = (self.counters.iteration - self.began, self.config.train.p_x_warmup_iters as u64);
        if i < warmup { i as f64 / warmup as f64 } else { 1.0 }
    }
}
