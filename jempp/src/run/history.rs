//! What `metrics.jsonl` says of a run so far: its best evaluation, and the time that it has taken.
//!
//! Invariant: all of it follows from the lines that are in the file, so that a run that is resumed, or that went back to an
//! earlier state, knows what an uninterrupted one would.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The evaluation with the highest accuracy on the validation images, the first one of several.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Iterations done then. `ckpt/best` is the checkpoint of this iteration.
    pub step: u64,
    /// Epochs done then.
    pub epoch: u64,
    /// Accuracy on the validation images, in [0, 1].
    pub accuracy: f64,
}

/// A run so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct History {
    best: Option<Best>,
    /// The best of this stage, and the evaluations of this stage since then.
    stage_best: Option<Best>,
    since: usize,
    /// Seconds of training up to the last checkpoint.
    seconds: f64,
}

impl History {
    /// From the text of `metrics.jsonl`; the present stage began after `epochs_before` epochs.
    pub(super) fn read(metrics: &str, epochs_before: u64) -> Self {
        let mut history = Self::default();
        let lines = metrics.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
        for line in lines {
            match line["event"].as_str() {
                Some("valid") => {
                    let (step, epoch) = (line["step"].as_u64(), line["epoch"].as_u64());
                    if let (Some(step), Some(epoch), Some(accuracy)) =
                        (step, epoch, line["accuracy"].as_f64())
                    {
                        history.add(Best { step, epoch, accuracy }, epoch > epochs_before);
                    }
                }
                Some("checkpoint") => {
                    history.seconds = line["training_seconds"].as_f64().unwrap_or(history.seconds);
                }
                _ => {}
            }
        }
        history
    }

    fn add(&mut self, new: Best, in_stage: bool) -> bool {
        let beats = |old: &Option<Best>| old.is_none_or(|o| new.accuracy > o.accuracy);
        if in_stage {
            let better = beats(&self.stage_best);
            self.since = if better { 0 } else { self.since + 1 };
            self.stage_best = if better { Some(new) } else { self.stage_best };
        }
        let better = beats(&self.best);
        self.best = if better { Some(new) } else { self.best };
        better
    }

    /// Adds an evaluation; returns whether it is the best of the run so far.
    pub(super) fn evaluated(&mut self, new: Best) -> bool {
        self.add(new, true)
    }

    /// The run has gone back: `now` is what the file says since.
    pub(super) fn rewound(&mut self, now: &Self) {
        *self = Self { seconds: self.seconds, ..now.clone() };
    }

    /// A stage begins: early stopping counts anew.
    pub(super) fn begin_stage(&mut self) {
        (self.stage_best, self.since) = (None, 0);
    }

    /// The best evaluation, if there was one.
    pub(super) fn best(&self) -> Option<Best> {
        self.best
    }

    /// Seconds of training up to the last checkpoint that an earlier process has saved.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Evaluations of this stage since its best one.
    pub(super) fn since_best(&self) -> usize {
        self.since
    }

    /// What early stopping rests on, in words.
    pub(super) fn describe_patience(&self) -> String {
        let (n, best) = (self.since, self.stage_best);
        let best = best.map(|b| format!(" of {:.4} in epoch {}", b.accuracy, b.epoch)).unwrap_or_default();
        format!("{n} evaluations without a better validation accuracy than that{best}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_from_the_lines() {
        let valid = |epoch: u64, accuracy: f64| {
            format!(r#"{{"event":"valid","step":{},"epoch":{epoch},"accuracy":{accuracy}}}"#, 10 * epoch)
        };
        let lines = [valid(1, 0.5), valid(2, 0.8), valid(3, 0.8), valid(4, 0.7)].join("\n");
        let text = format!(
            "{lines}\n{}\n{{torn",
            r#"{"event":"checkpoint","step":40,"best":false,"training_seconds":2.5}"#
        );
        let all = History::read(&text, 0);
        assert_eq!(all.best(), Some(Best { step: 20, epoch: 2, accuracy: 0.8 }));
        assert_eq!((all.since_best(), all.seconds()), (2, 2.5));
        assert!(all.describe_patience().contains("0.8000 in epoch 2"), "{}", all.describe_patience());
        // A stage that began after three epochs counts from there; the best of the run stays.
        let stage = History::read(&text, 3);
        assert_eq!((stage.best(), stage.since_best()), (all.best(), 0));
        // Reading is the same as having seen.
        let mut seen = History::default();
        let better: Vec<bool> = [0.5, 0.8, 0.8, 0.7]
            .iter()
            .zip(1..)
            .map(|(accuracy, epoch)| seen.evaluated(Best { step: 10 * epoch, epoch, accuracy: *accuracy }))
            .collect();
        assert_eq!(better, [true, true, false, false]);
        assert_eq!((seen.best(), seen.since_best()), (all.best(), all.since_best()));
        seen.begin_stage();
        assert_eq!(seen.since_best(), 0);
        // Lines of versions that did not write the step.
        assert_eq!(History::read(r#"{"event":"valid","epoch":1,"accuracy":0.5}"#, 0), History::default());
    }
}
