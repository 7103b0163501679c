//! What is odd about a schedule for the length of a run, said before the first iteration.

use super::TrainingRun;
use crate::config::Schedule;

impl TrainingRun {
    /// Warnings about a warm-up that is not over at the end of a stage, and about decays of the learning rate after it.
    pub(super) fn schedule_warnings(&self) -> Vec<String> {
        let several = self.spans.len() > 1;
        let mut out = Vec::new();
        for (i, span) in self.spans.iter().enumerate() {
            let (t, n) = (&span.config.train, span.end - span.start);
            let stage = if several { format!("stage {}: ", i + 1) } else { String::new() };
            let warmup = t.warmup_iters as u64;
            if warmup >= n {
                out.push(format!(
                    "{stage}train.warmup_iters is {warmup}, but there are {n} iterations: the learning rate only rises, to \
                     {:.2} of train.lr at the end; train.warmup_iters={} would be a tenth of them",
                    n as f64 / warmup as f64,
                    n / 10
                ));
            }
            let epochs = n.div_ceil(span.per_epoch);
            let late = t.decay_epochs.iter().filter(|e| **e as u64 >= epochs).count();
            if t.schedule == Schedule::Steps && late > 0 && t.decay_rate < 1.0 {
                let half = [0.5, 0.75, 0.9].map(|f| ((epochs as f64 * f) as u64).max(1).to_string());
                let mut scaled = half.to_vec();
                scaled.dedup();
                out.push(format!(
                    "{stage}train.decay_epochs is {:?}, but there are {epochs} epochs: {late} of the decays never come{}",
                    t.decay_epochs,
                    if epochs < 3 {
                        String::new()
                    } else {
                        format!("; train.decay_epochs=[{}] would fit, or train.schedule=cosine", scaled.join(", "))
                    }
                ));
            }
        }
        out
    }
}
