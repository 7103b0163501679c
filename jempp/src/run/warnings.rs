//! Early warnings: what a person should know before the run diverges, and while it can still be stopped.

use super::{Running, TrainingRun};
use crate::error::Result;
use crate::train::StepMetrics;
use serde_json::json;

/// The gap between log p(x) of data and chains, in nats, and the number of iterations in a row beyond it, from which on a run
/// is warned about; healthy ones stay below a tenth of it. Below the second gap all is well again.
const LARGE: f64 = 25.0;
const ITERATIONS: u32 = 20;
const WELL: f64 = 10.0;

/// Watches the gap, whatever `train.collapse_gap` is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GapWatch {
    beyond: u32,
    told: bool,
}

impl GapWatch {
    /// Shows it the gap of an iteration. True when it is time to warn: once, until all is well again.
    fn observe(&mut self, gap: f64) -> bool {
        self.beyond = if gap.abs() > LARGE { self.beyond + 1 } else { 0 };
        if gap.abs() < WELL {
            self.told = false;
        }
        let due = self.beyond >= ITERATIONS && !self.told;
        self.told |= due;
        due
    }
}

impl TrainingRun {
    /// Warns the observer, and notes in the metrics, that the gap has become large.
    pub(super) fn watch_gap(&self, run: &mut Running<'_>, m: &StepMetrics) -> Result<()> {
        let gap = m.gap();
        if !run.gap_watch.observe(gap) {
            return Ok(());
        }
        let limit = self.step.config().train.collapse_gap;
        let then = match limit {
            0.0 => "training does not stop by itself, as train.collapse_gap is 0".to_owned(),
            _ => format!("beyond ±{limit} it counts as divergence"),
        };
        let text = format!(
            "the gap between log p(x) of data and chains is {gap:.0} nats at iteration {}, and has been beyond ±{LARGE} for \
             {ITERATIONS} iterations: the chains may be losing the model; {then}",
            m.step
        );
        run.folder.metrics(&json!({"event": "warning", "step": m.step, "text": text}))?;
        run.observer.warn(&text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_gap_is_told_once_until_it_is_small_again() {
        let mut watch = GapWatch::default();
        let mut told = |gap: f64, n: usize| (0..n).filter(|_| watch.observe(gap)).count();
        assert_eq!(told(20.0, 100), 0);
        assert_eq!(told(-30.0, 19), 0);
        assert_eq!(told(26.0, 1), 1);
        assert_eq!(told(900.0, 50), 0);
        assert_eq!(told(f64::NAN, 1), 0);
        assert_eq!((told(15.0, 1), told(99.0, 30)), (0, 0));
        assert_eq!((told(1.0, 1), told(99.0, 30)), (0, 1));
    }
}
