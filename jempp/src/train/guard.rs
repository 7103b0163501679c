//! The guard of a training: monitors it, keeps states that proved good, and goes back to them when it fails.
//!
//! A snapshot is taken every [`EVERY`] iterations. It counts as good once the training has gone on for as many iterations from
//! it without a failure, and its gap has not grown meanwhile: a state from shortly before a failure is lost already. Two good
//! states are kept, the older some hundred iterations before the newer: a second failure before there is a new one leads to
//! the older.
//!
//! Invariant: all that it decides on is saved in checkpoints, the snapshots too, so that a resumed training goes back to the
//! same state as an uninterrupted one.

use super::health::Health;
use super::monitor::{Failure, Monitor};
use super::{Counters, Recovery, StepMetrics, TrainStep};
use crate::config::OnDivergence;
use crate::error::{Error, Result};
use crate::model::{read_tensor, write_tensor};
use crate::network::{get, set};
use jempp_data::Cursor;
use jempp_formats::container::{Container, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Iterations between snapshots, and iterations that a state must be survived by to count as good.
const EVERY: u64 = 50;
/// Iterations between the two good states, at least.
const APART: u64 = 200;
/// Iterations after which a state counts as good although the gap has grown: for what is called calm may have changed.
const STALE: u64 = 1000;
/// Rollbacks in a row after which steps are shortened along with the learning rate.
const STUBBORN: u32 = 3;
/// Prefix of the names of a snapshot's tensors in a checkpoint, before its number.
const PREFIX: &str = "snapshot";

/// A state of the training, in the host's memory.
#[derive(Clone, Debug)]
struct Snapshot {
    counters: Counters,
    cursors: Option<[Cursor; 2]>,
    monitor: Monitor,
    /// Values by name, in the axis order of memory.
    tensors: Vec<(String, Vec<f32>)>,
}

/// What a checkpoint says of a snapshot, besides its tensors.
#[derive(Serialize, Deserialize)]
struct About {
    counters: Counters,
    cursors: Option<[Cursor; 2]>,
    monitor: Value,
}

/// Where a training has gone back to.
#[derive(Clone, Debug)]
pub(crate) struct Rollback {
    /// The failure.
    pub(crate) failure: Failure,
    /// Iterations done in the state that it has gone back to.
    pub(crate) to: u64,
    /// Where the loaders stood then.
    pub(crate) cursors: Option<[Cursor; 2]>,
    /// What has been changed, in all, and the factors of learning rate and step size.
    pub(crate) recovery: Recovery,
    pub(crate) factors: [f64; 2],
}

impl core::fmt::Display for Rollback {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { failure, to, recovery, factors: [lr, step], .. } = self;
        write!(
            f,
            "{}; rollback {} to iteration {to}, learning rate × {lr}",
            failure.reason, recovery.rollbacks
        )?;
        if recovery.step_cuts > 0 { write!(f, ", step size × {step}") } else { Ok(()) }
    }
}

/// Guards a training.
#[derive(Debug)]
pub(crate) struct Guard {
    action: OnDivergence,
    most: u32,
    monitor: Monitor,
    /// At most two, the older first.
    good: Vec<Snapshot>,
    pending: Option<Snapshot>,
    /// Rollbacks since there was a new good state, and the iteration of the last failure.
    retries: u32,
    failed_at: u64,
}

impl Guard {
    /// A guard of the training `step`, whose state now is the first to go back to. `cursors` are the positions of the loaders,
    /// if there are any.
    ///
    /// # Errors
    /// If a GPU fails.
    pub(crate) fn new(step: &TrainStep, cursors: Option<[Cursor; 2]>) -> Result<Self> {
        let (t, monitor) = (&step.config().train, Monitor::new(step.config()));
        let mut guard = Self {
            action: t.on_divergence,
            most: t.max_rollbacks as u32,
            monitor,
            good: Vec::new(),
            pending: None,
            retries: 0,
            failed_at: 0,
        };
        if guard.action == OnDivergence::Rollback {
            guard.good.push(guard.snapshot(step, cursors)?);
        }
        Ok(guard)
    }

    /// Shows the guard the metrics of an iteration, the last one unless the device is a GPU. Returns the failure, if the
    /// training has failed.
    ///
    /// # Errors
    /// If a GPU fails.
    pub(crate) fn observe(&mut self, step: &TrainStep, m: &StepMetrics) -> Result<Option<Failure>> {
        let health = if step.device().is_gpu() { None } else { Some(step.health(false)?) };
        Ok(self.monitor.observe(m, health.as_ref()).err())
    }

    /// Whether [`Guard::keep`] is to be called after iteration `done`.
    pub(crate) fn is_due(&self, done: u64) -> bool {
        done.is_multiple_of(EVERY)
    }

    /// Looks at the whole state, with no iteration in flight: before it is kept, evaluated or saved. Returns the failure, if
    /// there is one.
    ///
    /// # Errors
    /// If a GPU fails.
    pub(crate) fn inspect(&mut self, step: &TrainStep) -> Result<Option<Failure>> {
        let done = step.counters().iteration;
        let mut health: Health = step.health(true)?;
        if !step.device().is_gpu() {
            // These have been judged with the metrics.
            (health.update, health.saturation) = (None, None);
        }
        Ok(self.monitor.judge(done, &health).err())
    }

    /// Takes a snapshot of a state that has been inspected, and decides whether the one before is good.
    ///
    /// # Errors
    /// If a GPU fails.
    pub(crate) fn keep(&mut self, step: &TrainStep, cursors: Option<[Cursor; 2]>) -> Result<()> {
        if self.action == OnDivergence::Stop {
            return Ok(());
        }
        let done = step.counters().iteration;
        let since = self.good.last().map_or(0, |g| g.counters.iteration);
        let calm = self.good.last().is_none_or(|g| self.monitor.is_calm(&g.monitor)) || done > since + STALE;
        if self.pending.as_ref().is_some_and(|p| done < p.counters.iteration + EVERY || !calm) {
            return Ok(());
        }
        let new = self.snapshot(step, cursors)?;
        let Some(proved) = self.pending.replace(new) else { return Ok(()) };
        if proved.counters.iteration > self.failed_at {
            self.retries = 0;
        }
        if let [older, newer] = &self.good[..] {
            let close = newer.counters.iteration < older.counters.iteration + APART;
            self.good.remove(usize::from(close));
        }
        self.good.push(proved);
        Ok(())
    }

    /// Goes back to a good state, with a lower learning rate, or after saturated chains a shorter step, and other random
    /// numbers; the worst chains are restarted. No iteration is in flight.
    ///
    /// # Errors
    /// [`Error::Diverged`] if `train.on_divergence` is `"stop"`, or this was the last of `train.max_rollbacks`.
    pub(crate) fn go_back(&mut self, step: &mut TrainStep, failure: Failure) -> Result<Rollback> {
        let mut recovery = step.recovery();
        if self.action == OnDivergence::Stop {
            return Err(Error::Diverged(failure.reason));
        }
        if recovery.rollbacks >= self.most {
            let n = recovery.rollbacks;
            return Err(Error::Diverged(format!("{}; this after {n} rollbacks", failure.reason)));
        }
        if self.retries > 0 && self.good.len() > 1 {
            self.good.pop();
        }
        self.pending = None;
        self.retries += 1;
        self.failed_at = self.failed_at.max(failure.step);
        recovery.rollbacks += 1;
        recovery.lr_cuts += u32::from(!failure.saturated);
        recovery.step_cuts += match failure.saturated {
            true => 2,
            false => u32::from(self.retries >= STUBBORN),
        };
        let good = self.good.last().ok_or_else(|| Error::Internal("no good state to go back to".into()))?;
        let (to, cursors) = (good.counters.iteration, good.cursors);
        self.monitor = good.monitor.clone();
        self.monitor.reset_counts();
        good.restore(step)?;
        step.set_recovery(recovery)?;
        step.restart_worst_chains()?;
        let factors = recovery.factors(step.config().train.rollback_factor);
        Ok(Rollback { failure, to, cursors, recovery, factors })
    }

    /// Puts the last good state into `step`, to be saved when the training has failed for good, without the changes of the
    /// rollbacks: who resumes from it chooses other settings. Returns where the loaders stood; `None` if no states are kept.
    ///
    /// # Errors
    /// If a GPU fails.
    pub(crate) fn leave_good(&mut self, step: &mut TrainStep) -> Result<Option<Option<[Cursor; 2]>>> {
        let Some(good) = self.good.last() else { return Ok(None) };
        good.restore(step)?;
        step.set_recovery(Recovery::default())?;
        (self.monitor, self.retries, self.failed_at) = (good.monitor.clone(), 0, 0);
        Ok(Some(good.cursors))
    }

    /// Mean and largest magnitude of the gap over the last 200 iterations; `None` if log p(x) is not trained.
    pub(crate) fn gap(&self) -> Option<[f64; 2]> {
        self.monitor.gap()
    }

    fn snapshot(&self, step: &TrainStep, cursors: Option<[Cursor; 2]>) -> Result<Snapshot> {
        let slots = step.network().tensors().chain(step.extra_slots());
        let tensors =
            slots.map(|(name, slot)| Ok((name, get(step.state(), slot)?))).collect::<Result<_>>()?;
        Ok(Snapshot { counters: step.counters(), cursors, monitor: self.monitor.clone(), tensors })
    }

    /// The guard's part of a checkpoint's state and tensors.
    ///
    /// # Errors
    /// If a tensor does not have its slot's size.
    pub(crate) fn save(&self, step: &TrainStep) -> Result<(Value, Vec<Tensor>)> {
        let (mut tensors, mut snapshots) = (Vec::new(), Vec::new());
        for (i, s) in self.good.iter().chain(&self.pending).enumerate() {
            let slots = step.network().tensors().chain(step.extra_slots());
            for ((name, values), (_, slot)) in s.tensors.iter().zip(slots) {
                tensors.push(write_tensor(&format!("{PREFIX}.{i}.{name}"), &slot.spec, values)?);
            }
            let about = About { counters: s.counters, cursors: s.cursors, monitor: s.monitor.to_json() };
            snapshots.push(about);
        }
        let state = json!({
            "monitor": self.monitor.to_json(), "snapshots": snapshots, "good": self.good.len(),
            "retries": self.retries, "failed_at": self.failed_at,
        });
        Ok((state, tensors))
    }

    /// Restores what [`Guard::save`] gave, for the training `step`, whose state has been restored.
    ///
    /// # Errors
    /// [`Error::Format`] if it is damaged.
    pub(crate) fn restore(&mut self, step: &TrainStep, state: &Value, tensors: &Container) -> Result<()> {
        let wrong = |e: &dyn std::fmt::Display| Error::from(tensors.wrong(format!("the guard's state: {e}")));
        let field = |name: &str| state.get(name).and_then(Value::as_u64).ok_or_else(|| wrong(&name));
        self.monitor.restore(&state["monitor"]).map_err(|e| wrong(&e))?;
        (self.retries, self.failed_at) = (field("retries")? as u32, field("failed_at")?);
        if self.action == OnDivergence::Stop {
            return Ok(());
        }
        let all: Vec<About> = Deserialize::deserialize(&state["snapshots"]).map_err(|e| wrong(&e))?;
        let good = field("good")? as usize;
        if all.is_empty() {
            // Saved with `train.on_divergence = "stop"`: the state that is resumed is the first to go back to.
            return Ok(());
        }
        if !(1..=2).contains(&good) || all.len() < good || all.len() > good + 1 {
            return Err(wrong(&"the number of snapshots"));
        }
        let mut snapshots = Vec::new();
        for (i, about) in all.into_iter().enumerate() {
            let mut monitor = self.monitor.clone();
            monitor.restore(&about.monitor).map_err(|e| wrong(&e))?;
            let slots = step.network().tensors().chain(step.extra_slots());
            let values = slots.map(|(name, slot)| {
                let read = read_tensor(tensors, &format!("{PREFIX}.{i}.{name}"), &slot.spec)?;
                Ok((name, read))
            });
            let tensors = values.collect::<Result<_>>()?;
            snapshots.push(Snapshot { counters: about.counters, cursors: about.cursors, monitor, tensors });
        }
        self.pending = (snapshots.len() > good).then(|| snapshots.pop()).flatten();
        self.good = snapshots;
        Ok(())
    }
}

impl Snapshot {
    /// Puts the state back.
    fn restore(&self, step: &mut TrainStep) -> Result<()> {
        let slots: Vec<_> = step.network().tensors().chain(step.extra_slots()).collect();
        for ((_, slot), (_, values)) in slots.into_iter().zip(&self.tensors) {
            set(step.state_mut(), slot, values)?;
        }
        step.clear_accumulators()?;
        step.round()?;
        step.set_counters(self.counters)
    }
}
