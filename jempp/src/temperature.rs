//! Temperature scaling (Guo et al., ICML 2017), as far as a finite sample supports it.
//!
//! Invariant: the temperature lies between 1 and every estimate of it, so that what chance alone suggests changes nothing.
//! The loss is convex in 1/T: a temperature between 1 and the best one cannot make the likelihood of further images worse.

use crate::error::Result;
use crate::metrics::LabelledLogits;
use serde::{Deserialize, Serialize};

/// The search range of temperatures is e^±this.
const REACH: f64 = 7.0;
/// Standard errors of log T by which an estimate is moved towards 1.
const MARGIN: f64 = 2.0;
/// Folds of the cross-validation.
const FOLDS: usize = 5;
/// Images below which no temperature is fitted.
pub const LEAST: usize = 20;

/// A temperature, and what it does to images that it was not fitted on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemperatureFit {
    /// What logits are to be divided by; 1 if no other temperature is supported.
    pub temperature: f64,
    /// The temperature of maximum likelihood, within e^±7; without errors among the images it is the lower end.
    pub max_likelihood: f64,
    /// Mean NLL in nats by five-fold cross-validation: of the logits, and of the logits divided by a temperature fitted on the
    /// other folds. Twice the first if the temperature is 1.
    pub nll: [f64; 2],
    /// Number of images.
    pub n: usize,
    /// Why the temperature is 1, if it is.
    pub warning: Option<String>,
}

/// Logits n×classes and their labels.
#[derive(Clone)]
struct Images<'a>(Vec<(&'a [f32], usize)>);

/// Mean of the logits' derivative and more at an inverse temperature, for one image.
struct Terms {
    /// Loss, in nats.
    loss: f64,
    /// Its derivative by the inverse temperature.
    slope: f64,
    /// Its second derivative.
    curvature: f64,
}

/// The loss of one image with the target 1 − `off` for its label and `off`, shared equally, for the other classes.
fn terms((row, y): (&[f32], usize), inverse: f64, off: f64) -> Terms {
    let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let (mut sum, mut first, mut second, mut total) = (0.0, 0.0, 0.0, 0.0);
    for z in row {
        let d = f64::from(*z) - max;
        let p = (inverse * d).exp();
        sum += p;
        first += p * d;
        second += p * d * d;
        total += d;
    }
    let mean = first / sum;
    let own = f64::from(row[y]) - max;
    let others = (total - own) / (row.len().max(2) - 1) as f64;
    let target = own + off * (others - own);
    Terms { loss: sum.ln() - inverse * target, slope: mean - target, curvature: second / sum - mean * mean }
}

impl Images<'_> {
    /// log(1/T) that minimises the loss, by Newton's method within a bracket.
    fn minimum(&self, off: f64) -> f64 {
        let at = |x: f64| {
            let inverse = x.exp();
            let all = self.0.iter().map(|i| terms(*i, inverse, off));
            let (s, c) = all.fold((0.0, 0.0), |(s, c), t| (s + t.slope, c + t.curvature));
            (s, c * inverse)
        };
        let (mut low, mut high, mut x) = (-REACH, REACH, 0.0);
        // Logits that are all alike do not depend on the temperature.
        if at(0.0).0 == 0.0 {
            return 0.0;
        }
        for i in 0..120 {
            let (slope, curvature) = at(x);
            if slope > 0.0 {
                high = x
            } else {
                low = x
            }
            // Where the loss falls like an exponential function, Newton's steps stay short: every third one halves the bracket.
            let next = if i % 3 == 2 { f64::NAN } else { x - slope / curvature };
            let next = if next > low && next < high { next } else { 0.5 * (low + high) };
            if (next - x).abs() < 1e-13 || slope == 0.0 {
                break;
            }
            x = next;
        }
        x
    }

    /// Standard error of that 1/T, robust to a model that does not hold (White, 1982); 0 where the loss is flat.
    fn standard_error(&self, inverse: f64, off: f64) -> f64 {
        let all = self.0.iter().map(|i| terms(*i, inverse, off));
        let (spread, curvature) = all.fold((0.0, 0.0), |(s, c), t| (s + t.slope * t.slope, c + t.curvature));
        if curvature > 1e-12 { f64::sqrt(spread) / curvature } else { 0.0 }
    }

    /// log(1/T) moved towards 0 by [`MARGIN`] standard errors: of 1/T below 1, and of its logarithm above.
    fn cautious(&self, off: f64) -> f64 {
        let x = self.minimum(off);
        let inverse = x.exp();
        let error = MARGIN * self.standard_error(inverse, off);
        if x > 0.0 { (x - error / inverse).max(0.0) } else { (inverse + error).ln().min(0.0) }
    }

    /// log(1/T) that both the images and the images with one more error among them support. Platt (1999) smooths targets by
    /// the same prior: n images without an error do not show that there are none among others.
    fn supported(&self) -> f64 {
        let (plain, smoothed) = (self.cautious(0.0), self.cautious(1.0 / (self.0.len() + 2) as f64));
        if plain * smoothed <= 0.0 {
            0.0
        } else if plain.abs() < smoothed.abs() {
            plain
        } else {
            smoothed
        }
    }

    /// Mean loss before and after scaling, of each fold by the temperature of the others.
    fn cross_validated(&self) -> [f64; 2] {
        let n = self.0.len();
        let mut sums = [0.0; 2];
        for fold in 0..FOLDS.min(n) {
            let others = self.0.iter().enumerate().filter(|(i, _)| i % FOLDS != fold).map(|(_, v)| *v);
            let inverse = Images(others.collect()).supported().exp();
            for image in self.0.iter().skip(fold).step_by(FOLDS) {
                sums[0] += terms(*image, 1.0, 0.0).loss;
                sums[1] += terms(*image, inverse, 0.0).loss;
            }
        }
        sums.map(|s| s / n as f64)
    }
}

impl TemperatureFit {
    /// Fits a temperature to logits n×`classes` and labels, which must be in random order.
    ///
    /// # Errors
    /// Those of [`LabelledLogits::new`].
    pub fn new(logits: &[f32], classes: usize, labels: &[u16]) -> Result<Self> {
        let before = LabelledLogits::new(logits, classes, labels)?.nll();
        let n = labels.len();
        let images =
            Images(logits.chunks_exact(classes).zip(labels.iter().map(|y| usize::from(*y))).collect());
        let max_likelihood = (-images.minimum(0.0)).exp();
        let kept = |why: String| Self {
            temperature: 1.0,
            max_likelihood,
            nll: [before; 2],
            n,
            warning: Some(format!("the temperature stays 1: {why}")),
        };
        if n < LEAST {
            return Ok(kept(format!("{n} images are too few to fit one ({LEAST} are needed)")));
        }
        let x = images.supported();
        if x == 0.0 {
            return Ok(kept(format!(
                "{n} images do not show that another one is better (the likeliest, {max_likelihood:.3}, may be chance)"
            )));
        }
        let nll = images.cross_validated();
        if nll[1] >= nll[0] {
            return Ok(kept(format!(
                "scaling does not lower the NLL of held-out images ({:.4} before, {:.4} after)",
                nll[0], nll[1]
            )));
        }
        Ok(Self { temperature: (-x).exp(), max_likelihood, nll, n, warning: None })
    }

    /// The temperature, the images it was fitted on, and the NLL before and after, for people.
    pub fn line(&self) -> String {
        let [before, after] = self.nll;
        let change = match &self.warning {
            None => format!("held-out NLL {before:.4} before scaling, {after:.4} after"),
            Some(_) => format!("NLL {before:.4}"),
        };
        format!("{:.4}  (fitted on {} validation images; {change})", self.temperature, self.n)
    }
}

#[cfg(test)]
mod tests;
