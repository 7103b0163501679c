//! The collapse detector: when training has failed and must stop.

use crate::config::TrainConfig;
use crate::train::StepMetrics;
use std::collections::VecDeque;

/// Iterations that the reported gap is averaged over.
const LAST: usize = 200;

/// Monitors the loss and the gap between log p(x) of data and of chains.
#[derive(Clone, Debug)]
pub struct CollapseDetector {
    loss_limit: f64,
    gap_limit: f64,
    patience: usize,
    beyond: usize,
    gaps: VecDeque<f64>,
}

impl CollapseDetector {
    /// A detector with the limits of the configuration.
    pub fn new(t: &TrainConfig) -> Self {
        Self {
            loss_limit: t.loss_limit,
            gap_limit: t.collapse_gap,
            patience: t.collapse_iters,
            beyond: 0,
            gaps: VecDeque::new(),
        }
    }

    /// Checks the metrics of the next iteration.
    ///
    /// # Errors
    /// The reason, if training has collapsed: a NaN or infinite value, a loss beyond `train.loss_limit`, or a gap beyond
    /// `train.collapse_gap` for `train.collapse_iters` iterations.
    pub fn observe(&mut self, m: &StepMetrics) -> Result<(), String> {
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

    /// Mean and largest magnitude of the gap over the last 200 iterations; `None` if log p(x) is not trained.
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
    fn collapse_is_detected_and_recovery_resets_the_count() {
        let mut t = crate::config::Config::preset("digits").unwrap().train;
        (t.collapse_gap, t.collapse_iters) = (10.0, 3);
        let mut d = CollapseDetector::new(&t);
        for gap in [11.0, 11.0, 0.0, -11.0, 11.0] {
            d.observe(&step(1.0, gap)).unwrap();
        }
        assert!(d.observe(&step(1.0, 12.0)).unwrap_err().contains("beyond ±10"));
        assert!(CollapseDetector::new(&t).observe(&step(f64::NAN, 0.0)).unwrap_err().contains("loss is NaN"));
        assert!(CollapseDetector::new(&t).observe(&step(1e9, 0.0)).unwrap_err().contains("beyond"));
        t.collapse_gap = 0.0;
        let mut off = CollapseDetector::new(&t);
        (0..10).for_each(|_| off.observe(&step(1.0, 1e6)).unwrap());
        assert_eq!(off.gap(), Some([1e6, 1e6]));
    }
}
