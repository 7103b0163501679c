//! Judging a model: calibration, detection of what is no data, robustness, samples, and a report of it all.
//!
//! Invariants: every number comes with its [`Protocol`]; everything random depends on (seed, use, image) alone, so that
//! an evaluation taken up again, or run in other portions, gives the same numbers; images are held a portion at a time.

pub mod all;
pub mod attack;
pub mod cache;
pub mod calibration;
pub mod detection;
pub mod fid;
pub mod inception;
pub mod ood;
pub mod picture;
pub mod report;
pub mod run;
pub mod samples;
pub mod scores;

use jempp::evaluation::{Part, Subject};
use jempp::model::Model;
use jempp::{Error, Result};
use jempp_data::random;
use serde::{Deserialize, Serialize};

/// What hears of steps done and steps in all of the work named; when it says false the work ends with
/// [`Error::Cancelled`].
pub type Watcher<'a> = dyn FnMut(&str, usize, usize) -> bool + 'a;

/// Tells the watcher, and stops when asked to.
pub(crate) fn tell(watch: &mut Watcher<'_>, what: &str, done: usize, all: usize) -> Result<()> {
    if watch(what, done, all) { Ok(()) } else { Err(Error::Cancelled) }
}

/// A number with its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Estimate {
    /// Percentiles 2.5 and 97.5 of bootstrap replicates around the value given next.
    fn percentiles(mut draws: Vec<f64>) -> impl FnOnce(f64) -> Self {
        draws.sort_unstable_by(f64::total_cmp);
        let at = |q: f64| {
            let i = (q * draws.len().saturating_sub(1) as f64).round() as usize;
            draws.get(i).copied()
        };
        let (low, high) = (at(0.025), at(0.975));
        move |value| Self { value, low: low.unwrap_or(value), high: high.unwrap_or(value) }
    }

    /// The same after the replicates are shifted to have their mean at the value; not below 0.
    fn centred(draws: Vec<f64>) -> impl FnOnce(f64) -> Self {
        let mean = draws.iter().sum::<f64>() / draws.len().max(1) as f64;
        let whole = Self::percentiles(draws);
        move |value| {
            let e = whole(value);
            Self { low: (e.low + value - mean).max(0.0), high: e.high + value - mean, ..e }
        }
    }

    /// A share of `hits` in `n` with Wilson's score interval (1927).
    pub fn share(hits: usize, n: usize) -> Self {
        const Z: f64 = 1.959_963_984_540_054;
        let (m, p) = (n.max(1) as f64, hits as f64 / n.max(1) as f64);
        let centre = (p + Z * Z / (2.0 * m)) / (1.0 + Z * Z / m);
        let half = Z / (1.0 + Z * Z / m) * (p * (1.0 - p) / m + Z * Z / (4.0 * m * m)).sqrt();
        Self { value: p, low: (centre - half).clamp(0.0, p), high: (centre + half).clamp(p, 1.0) }
    }
}

/// What a number was measured on, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Protocol {
    /// The data set.
    pub dataset: String,
    /// Its checksum.
    pub dataset_crc32c: String,
    /// Which of its images.
    pub split: String,
    /// How many of them.
    pub n: usize,
    /// Standard deviation of noise added to them, in units of [−1, 1].
    pub noise: f64,
    /// Statistics of batch norm; absent where there is none, or a converted model does not say.
    pub bn: Option<String>,
    /// Seed of everything random.
    pub seed: u64,
    /// Checksum of the model's weights and statistics.
    pub model_crc32c: String,
    /// What batch size, threads and device do not change: the version of this software.
    pub jempp_version: String,
}

impl Protocol {
    /// Of `n` images of a part of the data, with noise.
    ///
    /// # Errors
    /// None while the model's state is its own.
    pub fn new(model: &Model, subject: &Subject, part: Part, n: usize, noise: f64) -> Result<Self> {
        Ok(Self {
            dataset: subject.set.name().to_owned(),
            dataset_crc32c: format!("{:08x}", subject.set.crc32c()),
            split: part.name().to_owned(),
            n,
            noise,
            bn: model.metadata.get("bn").cloned(),
            seed: subject.seed,
            model_crc32c: format!("{:08x}", model.crc32c()?),
            jempp_version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// In a line.
    pub fn line(&self) -> String {
        let bn = self.bn.as_deref().map(|b| format!("batch norm {b}, ")).unwrap_or_default();
        let noise = if self.noise > 0.0 { format!("noise {}", self.noise) } else { "no noise".into() };
        format!(
            "{} ({}), {} {} images, {noise}, {bn}seed {}, model {}",
            self.dataset, self.dataset_crc32c, self.n, self.split, self.seed, self.model_crc32c
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_wilson_intervals() {
        // 81 of 263: R's prop.test(81, 263, correct = FALSE).
        let e = Estimate::share(81, 263);
        assert!((e.low - 0.255_288_56).abs() < 1e-4 && (e.high - 0.366_229_5).abs() < 1e-4, "{e:?}");
        let none = Estimate::share(0, 10);
        assert_eq!((none.value, none.low), (0.0, 0.0));
        assert!((none.high - 0.277_53).abs() < 1e-4, "{none:?}");
    }
}
