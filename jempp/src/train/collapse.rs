//! The collapse detector: when to give a run up.

use crate::config::TrainConfig;
use crate::train::StepMetrics;
use std::collections::VecDeque;

/// Iterations over which the gap is summed up at the end.
const LAST: usize = 200;

/// Follows the losses and the gap between data and chains.
#[derive(Clone, Debug)]
pub struct Watch {
    loss_limit: f64,
    gap_limit: f64,
    patience: usize,
    beyond: usize,
    gaps: VecDeque<f64>,
}

impl Watch {
    /// With the bounds of the configuration.
    pub fn new(t: &TrainConfig) -> Self {
        Self {
            loss_limit: t.loss_limit,
            gap_limit: t.collapse_gap,
            patience: t.collapse_iters,
            beyond: 0,
            gaps: VecDeque::new(),
        }
    }

    /// Takes in an iteration.
    ///
    /// # Errors
    /// Why training has collapsed: a value that is not finite, a loss beyond its limit, or a gap beyond its limit for
    /// too long.
    pub fn see(&mut self, m: &StepMetrics) -> Result<(), String> {
        let step = m.step;
        let named = [("loss", m.loss), ("cross-entropy", m.ce)];
        if let Some((name, v)) = named.into_iter().find(|(_, v)| !v.is_finite()) {
            return Err(format!("the {name} is {v} at iteration {step}"));
        }
        if m.loss.abs() > self.loss_limit {
            return Err(format!(
                "|loss| = {:.3e} at iteration {step} is beyond {:.1e}",
                m.loss.abs(),
                self.loss_limit
            ));
        }
        let gap = m.gap();
        if gap.is_nan() {
            return Ok(());
        }
        self.gaps.push_back(gap);
        if self.gaps.len() > LAST {
            self.gaps.pop_front();
        }
        self.beyond = if self.gap_limit > 0.0 && gap.abs() > self.gap_limit { self.beyond + 1 } else { 0 };
        if self.gap_limit > 0.0 && self.beyond >= self.patience.max(1) {
            return Err(format!(
                "the gap between log p(x) of data and chains, {gap:.1} at iteration {step}, has been beyond ±{} for \
                 {} iterations: the chains no longer follow the model",
                self.gap_limit, self.beyond
            ));
        }
        Ok(())
    }

    /// Mean gap over the last 200 iterations and its largest magnitude there.
    pub fn gap(&self) -> Option<[f64; 2]> {
        if self.gaps.is_empty() {
            return None;
        }
        let mean = self.gaps.iter().sum::<f64>() / self.gaps.len() as f64;
        Some([mean, self.gaps.iter().fold(0.0, |m: f64, g| m.max(g.abs()))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(loss: f64, gap: f64) -> StepMetrics {
        StepMetrics { step: 7, loss, log_density_data: gap, ..StepMetrics::default() }
    }

    #[test]
    fn collapse_is_seen_and_recovery_forgiven() {
        let mut t = crate::config::Config::preset("digits").unwrap().train;
        (t.collapse_gap, t.collapse_iters) = (10.0, 3);
        let mut w = Watch::new(&t);
        for gap in [11.0, 11.0, 0.0, -11.0, 11.0] {
            w.see(&step(1.0, gap)).unwrap();
        }
        assert!(w.see(&step(1.0, 12.0)).unwrap_err().contains("beyond ±10"));
        assert!(Watch::new(&t).see(&step(f64::NAN, 0.0)).unwrap_err().contains("loss is NaN"));
        assert!(Watch::new(&t).see(&step(1e9, 0.0)).unwrap_err().contains("beyond"));
        t.collapse_gap = 0.0;
        let mut off = Watch::new(&t);
        (0..10).for_each(|_| off.see(&step(1.0, 1e6)).unwrap());
        assert_eq!(off.gap(), Some([1e6, 1e6]));
    }
}
