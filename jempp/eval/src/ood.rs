//! Out-of-distribution detection: a model's scores of its data against those of other images.

use super::cache::Cache;
use super::detection::{REPLICATES, Ranking, Separation};
use super::scores::{Score, Scored, score};
use super::{Estimate, Protocol, Watcher};
use jempp::Result;
use jempp::model::Model;
use jempp_data::synthetic::Images;
use serde::{Deserialize, Serialize};

/// Bars of a histogram.
const BARS: usize = 40;
/// Share of the scores on each side beyond which a histogram gathers them in its outermost bars.
const TAIL: f64 = 0.005;

/// One score against one set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ByScore {
    /// What the score is called.
    pub score: String,
    /// How well it tells the sets apart.
    pub separation: Separation<Estimate>,
}

/// All scores against one set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Against {
    /// What the other images are.
    pub set: String,
    /// The checksum of their data set; absent for synthetic ones.
    pub crc32c: Option<String>,
    /// How many there are.
    pub n: usize,
    /// The scores.
    pub scores: Vec<ByScore>,
    /// log p(x) of both sides.
    pub histogram: Histogram,
}

/// Shares of two samples in bars of equal width; what lies beyond is in the outermost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Lower end of the first bar.
    pub low: f64,
    /// Upper end of the last.
    pub high: f64,
    /// Shares of the data.
    pub inside: Vec<f64>,
    /// Shares of the other images.
    pub outside: Vec<f64>,
}

/// A model's detection of what is no data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// What the data were.
    pub protocol: Protocol,
    /// One entry a set.
    pub against: Vec<Against>,
}

/// A set of other images.
#[derive(Clone, Debug)]
pub struct Other<'a> {
    /// What it is called.
    pub name: String,
    /// The images.
    pub images: Images<'a>,
    /// The checksum of their data set, if they are one.
    pub crc32c: Option<String>,
}

/// The scores that are compared.
fn scores_of(scored: &Scored) -> &'static [Score] {
    match scored.gradient.is_empty() {
        false => &[Score::LogDensity, Score::MaxProbability, Score::Gradient],
        true => &[Score::LogDensity, Score::MaxProbability],
    }
}

/// Compares scores of the data with those of each other set.
///
/// # Errors
/// Those of the model and the images; [`jempp::Error::Cancelled`].
pub fn detection(
    model: &Model,
    protocol: Protocol,
    inside: &Scored,
    others: &[Other<'_>],
    cache: &Cache,
    watch: &mut Watcher<'_>,
) -> Result<Detection> {
    let classes = model.network().config.classes;
    let seed = protocol.seed;
    let gradient = !inside.gradient.is_empty();
    let mut against = Vec::new();
    for other in others {
        let cache = cache.with(other.crc32c.as_deref().unwrap_or_default());
        let outside = score(model, &other.images, &other.name, gradient, &cache, watch)?;
        let mut scores = Vec::new();
        for s in scores_of(inside) {
            let ranking = Ranking::new(&inside.score(*s, classes)?, &outside.score(*s, classes)?)?;
            let separation = ranking.bootstrap(REPLICATES, seed);
            scores.push(ByScore { score: s.name().to_owned(), separation });
        }
        let density = |s: &Scored| s.score(Score::LogDensity, classes);
        against.push(Against {
            set: other.name.clone(),
            crc32c: other.crc32c.clone(),
            n: outside.count(),
            scores,
            histogram: Histogram::new(&density(inside)?, &density(&outside)?),
        });
    }
    Ok(Detection { protocol, against })
}

impl Histogram {
    /// Over the range of both samples but for half a percent of each at either end.
    pub fn new(inside: &[f64], outside: &[f64]) -> Self {
        let ends = |v: &[f64]| {
            let mut v = v.to_vec();
            v.sort_unstable_by(f64::total_cmp);
            let cut = (TAIL * v.len() as f64) as usize;
            (v.get(cut).copied(), v.len().checked_sub(cut + 1).and_then(|i| v.get(i).copied()))
        };
        let [(a, b), (c, d)] = [ends(inside), ends(outside)];
        let low = a.into_iter().chain(c).fold(f64::INFINITY, f64::min);
        let high = b.into_iter().chain(d).fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low < high { (low, high) } else { (low - 0.5, low + 0.5) };
        let shares = |v: &[f64]| {
            let mut bars = vec![0.0; BARS];
            for x in v {
                let at = ((x - low) / (high - low) * BARS as f64).floor().clamp(0.0, (BARS - 1) as f64);
                bars[at as usize] += 1.0 / v.len() as f64;
            }
            bars
        };
        Self { low, high, inside: shares(inside), outside: shares(outside) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_hold_all() {
        let inside: Vec<f64> = (0..1000).map(f64::from).collect();
        let mut outside = vec![-1e6];
        outside.extend((0..999).map(|i| f64::from(i) - 500.0));
        let h = Histogram::new(&inside, &outside);
        assert_eq!((h.low, h.high), (-496.0, 994.0));
        for side in [&h.inside, &h.outside] {
            assert!((side.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
        assert!(h.inside[0] == 0.0 && h.outside[BARS - 1] == 0.0 && h.outside[0] > 0.005);
        let one = Histogram::new(&[2.0], &[2.0]);
        assert_eq!((one.low, one.high), (1.5, 2.5));
    }
}
