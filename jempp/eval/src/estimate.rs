//! Numbers with 95 % confidence intervals.

use serde::{Deserialize, Serialize};

/// Replicates of a bootstrap.
pub(crate) const REPLICATES: usize = 1000;

/// A number with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The point estimate.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Estimate {
    /// The percentile bootstrap: from the 2.5th to the 97.5th percentile of `replicates`. The point estimate is the argument
    /// of the function returned.
    pub(crate) fn percentiles(mut replicates: Vec<f64>) -> impl FnOnce(f64) -> Self {
        replicates.sort_unstable_by(f64::total_cmp);
        let at = |q: f64| {
            let i = (q * replicates.len().saturating_sub(1) as f64).round() as usize;
            replicates.get(i).copied()
        };
        let (low, high) = (at(0.025), at(0.975));
        move |value| Self { value, low: low.unwrap_or(value), high: high.unwrap_or(value) }
    }

    /// The percentile bootstrap with bias correction: the replicates are shifted so that their mean is the point
    /// estimate. For non-negative statistics that resampling biases; the lower end is at least 0.
    pub(crate) fn bias_corrected(replicates: Vec<f64>) -> impl FnOnce(f64) -> Self {
        let mean = replicates.iter().sum::<f64>() / replicates.len().max(1) as f64;
        let uncorrected = Self::percentiles(replicates);
        move |value| {
            let e = uncorrected(value);
            Self { low: (e.low + value - mean).max(0.0), high: e.high + value - mean, ..e }
        }
    }

    /// The proportion of `hits` in `n` trials, with Wilson's score interval (1927).
    pub fn proportion(hits: usize, n: usize) -> Self {
        const Z: f64 = 1.959_963_984_540_054;
        let (m, p) = (n.max(1) as f64, hits as f64 / n.max(1) as f64);
        let centre = (p + Z * Z / (2.0 * m)) / (1.0 + Z * Z / m);
        let half = Z / (1.0 + Z * Z / m) * (p * (1.0 - p) / m + Z * Z / (4.0 * m * m)).sqrt();
        Self { value: p, low: (centre - half).clamp(0.0, p), high: (centre + half).clamp(p, 1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proportions_have_wilson_intervals() {
        // 81 of 263: R's prop.test(81, 263, correct = FALSE).
        let e = Estimate::proportion(81, 263);
        assert!((e.low - 0.255_288_56).abs() < 1e-4 && (e.high - 0.366_229_5).abs() < 1e-4, "{e:?}");
        let none = Estimate::proportion(0, 10);
        assert_eq!((none.value, none.low), (0.0, 0.0));
        assert!((none.high - 0.277_53).abs() < 1e-4, "{none:?}");
    }
}
