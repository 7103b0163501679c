//! What abstaining costs and what it gains, on labelled images.

use super::{Thresholds, least};
use crate::error::{Error, Result};
use crate::metrics::argmax;
use crate::model::Scores;
use serde::{Deserialize, Serialize};

/// The values of α of [`Abstention::curve`].
const ALPHAS: [f64; 7] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5];

/// Decisions about labelled in-distribution images, summed up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Abstention {
    /// α of the prediction sets.
    pub alpha: f64,
    /// α of out-of-distribution detection.
    pub ood_alpha: f64,
    /// Number of images.
    pub n: usize,
    /// Images on which the model abstains.
    pub abstained: usize,
    /// Fraction of the images that are answered, which is what the model does not abstain on.
    pub coverage: f64,
    /// Accuracy on the images that are answered; `None` if there are none.
    pub accuracy_answered: Option<f64>,
    /// Error rate, without abstention, on the images that are not; `None` if all are answered.
    pub error_abstained: Option<f64>,
    /// Fraction of the images, all in-distribution, that are rejected as out of distribution.
    pub false_alarms: f64,
}

impl Thresholds {
    /// Decides about images with these scores and labels of `classes` classes, and sums up the decisions.
    ///
    /// # Errors
    /// [`Error::Data`] if there are no images, or scores and labels differ in number.
    pub fn abstention(&self, scores: &Scores, (classes, labels): (usize, &[u16])) -> Result<Abstention> {
        let n = labels.len();
        if n == 0 || scores.log_density.len() != n || scores.logits.len() != n * classes {
            return Err(Error::Data(format!("scores of {} images for {n} labels", scores.log_density.len())));
        }
        let (mut answered, mut right, mut wrong_dropped, mut rejected) = (0, 0, 0, 0);
        let rows = scores.logits.chunks_exact(classes).zip(labels).zip(&scores.log_density);
        for ((row, y), density) in rows {
            let correct = argmax(row) == usize::from(*y);
            rejected += usize::from(self.p_value(*density) < self.values.ood_alpha);
            if self.decide(row, *density).abstain {
                wrong_dropped += usize::from(!correct);
            } else {
                answered += 1;
                right += usize::from(correct);
            }
        }
        let fraction = |part: usize, of: usize| (of > 0).then(|| part as f64 / of as f64);
        Ok(Abstention {
            alpha: self.values.alpha,
            ood_alpha: self.values.ood_alpha,
            n,
            abstained: n - answered,
            coverage: answered as f64 / n as f64,
            accuracy_answered: fraction(right, answered),
            error_abstained: fraction(wrong_dropped, n - answered),
            false_alarms: rejected as f64 / n as f64,
        })
    }
}

impl Abstention {
    /// What thresholds fitted to validation images at several values of α, the same for prediction sets and for
    /// out-of-distribution detection, do to other images. Values of α for which there are too few validation images are left
    /// out.
    ///
    /// # Errors
    /// Those of [`Thresholds::fit`] and [`Thresholds::abstention`].
    pub fn curve(valid: (&Scores, &[u16]), test: (&Scores, &[u16]), classes: usize) -> Result<Vec<Self>> {
        let possible = ALPHAS.into_iter().filter(|a| valid.1.len() >= least(*a));
        let at = |alpha| {
            let fitted = Thresholds::fit(valid.0, (classes, valid.1), [alpha; 2], "")?;
            fitted.abstention(test.0, (classes, test.1))
        };
        possible.map(at).collect()
    }

    /// Head of [`Abstention::row`].
    pub const HEAD: [&str; 5] =
        ["α", "images answered", "accuracy of these", "error of the others", "false alarms of OOD detection"];

    /// The numbers as text: α, then fractions, with a dash for what has no images.
    pub fn row(&self) -> [String; 5] {
        let number = |v: Option<f64>| v.map_or("–".to_owned(), |v| format!("{v:.3}"));
        [
            self.alpha.to_string(),
            number(Some(self.coverage)),
            number(self.accuracy_answered),
            number(self.error_abstained),
            number(Some(self.false_alarms)),
        ]
    }
}
