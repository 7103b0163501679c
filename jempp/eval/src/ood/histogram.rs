//! Histograms of a score on the data and on an OOD set.

use serde::{Deserialize, Serialize};

/// Number of bins.
const BINS: usize = 40;
/// Fraction of each sample at either end that the range of the bins leaves out.
const TAIL: f64 = 0.005;

/// Relative frequencies of two samples in bins of equal width. Values outside the range count in the outermost bins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Lower end of the first bin.
    pub low: f64,
    /// Upper end of the last bin.
    pub high: f64,
    /// Frequencies of the in-distribution images.
    pub inside: Vec<f64>,
    /// Frequencies of the OOD images.
    pub outside: Vec<f64>,
}

impl Histogram {
    /// Histograms of two samples, over the range that holds the central 99 % of both.
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
        let frequencies = |v: &[f64]| {
            let mut bins = vec![0.0; BINS];
            for x in v {
                let at = ((x - low) / (high - low) * BINS as f64).floor().clamp(0.0, (BINS - 1) as f64);
                bins[at as usize] += 1.0 / v.len() as f64;
            }
            bins
        };
        Self { low, high, inside: frequencies(inside), outside: frequencies(outside) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outermost_bins_hold_the_tails() {
        let inside: Vec<f64> = (0..1000).map(f64::from).collect();
        let mut outside = vec![-1e6];
        outside.extend((0..999).map(|i| f64::from(i) - 500.0));
        let h = Histogram::new(&inside, &outside);
        assert_eq!((h.low, h.high), (-496.0, 994.0));
        for side in [&h.inside, &h.outside] {
            assert!((side.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
        assert!(h.inside[0] == 0.0 && h.outside[BINS - 1] == 0.0 && h.outside[0] > 0.005);
        let one = Histogram::new(&[2.0], &[2.0]);
        assert_eq!((one.low, one.high), (1.5, 2.5));
    }
}
