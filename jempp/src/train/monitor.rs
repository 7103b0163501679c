//! The monitor of a training: when it has failed, and why.
//!
//! Invariant: what it decides is a function of what it has been shown, and its record is saved in checkpoints, so that a
//! resumed training fails where an uninterrupted one would.

use super::health::Health;
use crate::config::{Config, TrainConfig};
use crate::train::StepMetrics;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Iterations that the reported gap is averaged over.
const LAST: usize = 200;
/// Iterations that chains must be saturated for.
const SATURATED_ITERS: u64 = 20;
/// Fraction of values at a face of the box from which chains can be saturated, and the mean gap, in nats, from which they are if
/// they are further out than the data.
const SATURATED: f64 = 0.25;
const BEHIND: f64 = 3.0;
/// Weight of an iteration in the moving averages.
const RATE: f64 = 0.1;
/// Cross-entropies, as fractions of that of guessing: learnt below the first, forgotten above the second; the third bounds
/// what one iteration contributes.
const LEARNT: f64 = 0.5;
const FORGOTTEN: f64 = 0.9;
const MOST: f64 = 1.5;
/// Iterations before the size of updates is judged, and by which factor it must exceed its average.
const UPDATE_ITERS: u32 = 50;
const UPDATE_FACTOR: f64 = 1000.0;
/// Mean gap, in nats, up to which a training counts as calm, whatever it was before.
const CALM: f64 = 10.0;

/// Why a training has failed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    /// The iteration after which it showed.
    pub(crate) step: u64,
    /// The reason, in words.
    pub(crate) reason: String,
    /// Whether chains at the faces of the box are the reason: steps too long for the model.
    pub(crate) saturated: bool,
}

/// What a monitor remembers of the iterations so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    /// Iterations in a row with a gap beyond the limit.
    beyond: u64,
    /// The gaps of the last iterations, as bits.
    gaps: VecDeque<u64>,
    /// Moving averages, as bits, once there is one: of the gap, of the cross-entropy, of the size of updates.
    gap: Option<u64>,
    ce: Option<u64>,
    update: Option<u64>,
    /// Lowest average cross-entropy.
    least_ce: Option<u64>,
    /// Updates seen.
    updates: u32,
    /// Since which iteration chains have been saturated.
    saturated_since: Option<u64>,
}

/// Monitors loss, gap, updates and chains of a training.
#[derive(Clone, Debug)]
pub(crate) struct Monitor {
    loss_limit: f64,
    gap_limit: f64,
    patience: u64,
    /// Whether nothing bounds how far a chain moves in a step.
    unbounded: bool,
    /// Cross-entropy of guessing; `None` if the classifier is not trained.
    guessing: Option<f64>,
    record: Record,
}

fn value(bits: Option<u64>) -> Option<f64> {
    bits.map(f64::from_bits)
}

/// The moving average with one more value.
fn averaged(average: &mut Option<u64>, v: f64) -> f64 {
    let new = value(*average).map_or(v, |a| a + RATE * (v - a));
    *average = Some(new.to_bits());
    new
}

impl Monitor {
    /// A monitor with the limits of the configuration.
    pub(crate) fn new(c: &Config) -> Self {
        let t: &TrainConfig = &c.train;
        let classifies = t.p_y_given_x_weight > 0.0 || t.p_x_y_weight > 0.0;
        Self {
            loss_limit: t.loss_limit,
            gap_limit: t.collapse_gap,
            patience: t.collapse_iters.max(1) as u64,
            unbounded: c.sampler.clip == 0.0,
            guessing: classifies.then(|| (c.model.classes as f64).ln()),
            record: Record::default(),
        }
    }

    /// Checks the metrics of the next iteration, and the health of the state after it if that is known.
    ///
    /// # Errors
    /// The reason, if training has failed: a value that is not finite, a loss beyond `train.loss_limit`, a gap beyond
    /// `train.collapse_gap` for `train.collapse_iters` iterations, saturated chains, an update that is out of proportion, or
    /// a cross-entropy that is back at guessing.
    pub(crate) fn observe(&mut self, m: &StepMetrics, health: Option<&Health>) -> Result<(), Failure> {
        let fail = |reason: String| Failure { step: m.step, reason, saturated: false };
        let step = m.step;
        let named = [("loss", m.loss), ("cross-entropy", m.ce)];
        if let Some((name, v)) = named.into_iter().find(|(_, v)| !v.is_finite()) {
            return Err(fail(format!("the {name} is {v} at iteration {step}")));
        }
        if m.loss.abs() > self.loss_limit {
            let (loss, limit) = (m.loss.abs(), self.loss_limit);
            return Err(fail(format!("|loss| = {loss:.3e} at iteration {step} is beyond {limit:.1e}")));
        }
        if let Some(h) = health {
            self.judge(step, h)?;
        }
        self.check_ce(m).map_err(fail)?;
        self.check_gap(m).map_err(fail)
    }

    /// Checks the health of the state after iteration `step`.
    ///
    /// # Errors
    /// The reason, as in [`Monitor::observe`].
    pub(crate) fn judge(&mut self, step: u64, h: &Health) -> Result<(), Failure> {
        let fail = |reason, saturated| Err(Failure { step, reason, saturated });
        if let Some(what) = &h.not_finite {
            return fail(format!("a value of {what} is not finite after iteration {step}"), false);
        }
        let r = &mut self.record;
        if let Some(size) = h.update {
            let usual = value(r.update).filter(|u| r.updates >= UPDATE_ITERS && *u > 0.0);
            let usual = usual.or((!size.is_finite()).then_some(0.0));
            if let Some(usual) = usual.filter(|u| !size.is_finite() || size > UPDATE_FACTOR * u) {
                let why = format!(
                    "the gradients' running mean has the norm {size:.2e} at iteration {step}, usually {usual:.2e}"
                );
                return fail(why, false);
            }
            averaged(&mut r.update, size);
            r.updates = r.updates.saturating_add(1);
        }
        let Some([chains, data]) = h.saturation else { return Ok(()) };
        let behind = value(r.gap).is_some_and(|gap| gap > BEHIND);
        let out = chains > (1.0 + data) / 2.0;
        let saturated = out || (behind && (self.unbounded || chains > data.max(SATURATED)));
        if !saturated {
            r.saturated_since = None;
            return Ok(());
        }
        let since = *r.saturated_since.get_or_insert(step);
        if step >= since + SATURATED_ITERS {
            let why = format!(
                "{:.0} % of the chains' values are at a face of the box at iteration {step}, {:.0} % of the data's, \
                 and the mean gap is {:.1}: the steps are too long for the model",
                100.0 * chains,
                100.0 * data,
                value(r.gap).unwrap_or(0.0)
            );
            return fail(why, true);
        }
        Ok(())
    }

    fn check_ce(&mut self, m: &StepMetrics) -> Result<(), String> {
        let Some(guessing) = self.guessing else { return Ok(()) };
        let r = &mut self.record;
        let now = averaged(&mut r.ce, m.ce.min(MOST * guessing));
        let least = value(r.least_ce).unwrap_or(now).min(now);
        r.least_ce = Some(least.to_bits());
        if least < LEARNT * guessing && now > FORGOTTEN * guessing {
            let step = m.step;
            return Err(format!(
                "the cross-entropy is back at that of guessing: {now:.2} around iteration {step}, {least:.2} before"
            ));
        }
        Ok(())
    }

    fn check_gap(&mut self, m: &StepMetrics) -> Result<(), String> {
        let (gap, step, r) = (m.gap(), m.step, &mut self.record);
        if gap.is_nan() {
            // Without chains. Where there are some, the loss would not have been finite either.
            return Ok(());
        }
        averaged(&mut r.gap, gap);
        r.gaps.push_back(gap.to_bits());
        if r.gaps.len() > LAST {
            r.gaps.pop_front();
        }
        r.beyond = if self.gap_limit > 0.0 && gap.abs() > self.gap_limit { r.beyond + 1 } else { 0 };
        if self.gap_limit > 0.0 && r.beyond >= self.patience {
            return Err(format!(
                "the gap between log p(x) of data and chains, {gap:.1} at iteration {step}, has been beyond ±{} for \
                 {} iterations: the chains no longer follow the model",
                self.gap_limit, r.beyond
            ));
        }
        Ok(())
    }

    /// Whether the gap is as small as it was at the time of `before`, or small.
    pub(crate) fn is_calm(&self, before: &Self) -> bool {
        let gap = |m: &Self| value(m.record.gap).unwrap_or(0.0).abs();
        self.record.beyond == 0
            && self.record.saturated_since.is_none()
            && gap(self) <= CALM.max(2.0 * gap(before))
    }

    /// Forgets the failures that it was counting up to, as after a rollback.
    pub(super) fn reset_counts(&mut self) {
        self.record.beyond = 0;
        self.record.saturated_since = None;
    }

    /// Mean and largest magnitude of the gap over the last 200 iterations; `None` if log p(x) is not trained.
    pub(crate) fn gap(&self) -> Option<[f64; 2]> {
        let gaps = || self.record.gaps.iter().map(|g| f64::from_bits(*g));
        if self.record.gaps.is_empty() {
            return None;
        }
        let mean = gaps().sum::<f64>() / self.record.gaps.len() as f64;
        Some([mean, gaps().fold(0.0, |m: f64, g| m.max(g.abs()))])
    }

    /// The record, for a checkpoint.
    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::json!(self.record)
    }

    /// Restores a record of [`Monitor::to_json`].
    ///
    /// # Errors
    /// If it is not one.
    pub(super) fn restore(&mut self, record: &serde_json::Value) -> Result<(), serde_json::Error> {
        self.record = Record::deserialize(record)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(loss: f64, gap: f64) -> StepMetrics {
        StepMetrics { step: 7, loss, log_density_data: gap, ..StepMetrics::default() }
    }

    fn monitor(change: impl Fn(&mut TrainConfig)) -> Monitor {
        let mut c = Config::preset("digits").unwrap();
        change(&mut c.train);
        Monitor::new(&c)
    }

    fn said(result: Result<(), Failure>) -> String {
        result.unwrap_err().reason
    }

    #[test]
    fn a_gap_is_a_failure_when_it_lasts() {
        let limits = |t: &mut TrainConfig| (t.collapse_gap, t.collapse_iters) = (10.0, 3);
        let mut d = monitor(limits);
        for gap in [11.0, 11.0, 0.0, -11.0, 11.0] {
            d.observe(&step(1.0, gap), None).unwrap();
        }
        assert!(said(d.observe(&step(1.0, 12.0), None)).contains("beyond ±10"));
        assert!(said(monitor(limits).observe(&step(f64::NAN, 0.0), None)).contains("loss is NaN"));
        assert!(said(monitor(limits).observe(&step(1e9, 0.0), None)).contains("beyond"));
        let mut off = monitor(|t| t.collapse_gap = 0.0);
        (0..10).for_each(|_| off.observe(&step(1.0, 1e6), None).unwrap());
        assert_eq!(off.gap(), Some([1e6, 1e6]));
    }

    #[test]
    fn the_state_is_judged() {
        let health = |update, chains| Health {
            not_finite: None,
            update: Some(update),
            saturation: Some([chains, 0.5]),
        };
        let mut d = monitor(|_| {});
        for i in 0..60 {
            d.judge(i, &health(1.0 + i as f64, 0.7)).unwrap();
        }
        assert!(said(d.clone().judge(60, &health(1e6, 0.7))).contains("norm 1.00e6"));
        for i in 60..80 {
            d.judge(i, &health(1.0, 0.8)).unwrap();
        }
        let failure = d.clone().judge(80, &health(1.0, 0.8)).unwrap_err();
        assert!(failure.saturated && failure.reason.contains("80 % of the chains' values"), "{failure:?}");
        d.judge(80, &health(1.0, 0.7)).unwrap();
        // Fewer count where the gap shows that they no longer follow.
        let mut behind = d.clone();
        (0..99).for_each(|_| behind.observe(&step(1.0, 8.0), None).unwrap());
        (100..120).for_each(|i| behind.judge(i, &health(1.0, 0.55)).unwrap());
        assert!(behind.clone().judge(120, &health(1.0, 0.55)).unwrap_err().saturated);
        behind.judge(120, &health(1.0, 0.45)).unwrap();
        d.judge(81, &health(1.0, 0.8)).unwrap();
        let bad = Health { not_finite: Some("`replay_buffer`".into()), ..Health::default() };
        assert!(said(d.judge(82, &bad)).contains("`replay_buffer`"));
    }

    #[test]
    fn what_was_learnt_must_not_be_forgotten() {
        let with = |ce| StepMetrics { ce, ..step(1.0, 0.0) };
        let mut d = monitor(|_| {});
        // At the start guessing is no failure, nor is a single bad batch later.
        (0..200).for_each(|_| d.observe(&with(2.3), None).unwrap());
        (0..50).for_each(|_| d.observe(&with(0.1), None).unwrap());
        d.observe(&with(50.0), None).unwrap();
        d.observe(&with(0.1), None).unwrap();
        let failed = (0..60).find_map(|_| d.observe(&with(2.4), None).err()).unwrap();
        assert!(failed.reason.contains("that of guessing"), "{failed:?}");
        let mut alone = monitor(|t| t.p_y_given_x_weight = 0.0);
        [0.1, 2.3].into_iter().for_each(|ce| (0..99).for_each(|_| alone.observe(&with(ce), None).unwrap()));
    }

    #[test]
    fn the_record_is_restored_to_the_bit() {
        let mut d = monitor(|_| {});
        for i in 0..300 {
            let m = StepMetrics { ce: 1.0 / f64::from(i + 1), ..step(0.3, f64::from(i) / 7.0) };
            d.observe(&m, None).unwrap();
        }
        let mut e = monitor(|_| {});
        let text = d.to_json().to_string();
        e.restore(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!((e.record.clone(), e.gap()), (d.record.clone(), d.gap()));
    }
}
