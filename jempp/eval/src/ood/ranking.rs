//! AUROC, FPR95 and AUPR of a score, with bootstrap confidence intervals.
//!
//! Invariants: everything is computed from the number of scores in each group of equal ones, so ties are counted exactly and a
//! bootstrap replicate costs one pass over the groups; NaN scores are an error.

use crate::estimate::Estimate;
use engine::rng::Philox;
use jempp::streams;
use jempp::{Error, Result};
use jempp_data::eval_stream;
use serde::{Deserialize, Serialize};

/// True positive rate of [`Separation::fpr95`].
const TPR: f64 = 0.95;

/// How well a score that is high on in-distribution images separates them from OOD images. All values are in [0, 1].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Separation<T = f64> {
    /// Area under the ROC curve: the probability that an in-distribution image scores above an OOD image, ties counting ½
    /// (Mann & Whitney, 1947).
    pub auroc: T,
    /// False positive rate at 95 % true positive rate: the fraction of OOD images at or above the highest threshold that at
    /// least 95 % of the in-distribution images reach.
    pub fpr95: T,
    /// Average precision with in-distribution images as positives; depends on the ratio of the set sizes.
    pub aupr_in: T,
    /// Average precision with OOD images as positives and the score negated; depends on the ratio of the set sizes.
    pub aupr_out: T,
}

/// Ranks of the scores of in-distribution and OOD images.
#[derive(Clone, Debug)]
pub struct Ranking {
    /// Group of each in-distribution score; groups of equal scores are numbered from the highest score down.
    inside: Vec<u32>,
    /// Group of each OOD score.
    outside: Vec<u32>,
    /// Number of groups.
    groups: usize,
}

impl Ranking {
    /// Ranks scores that are high on in-distribution images. Infinite scores are ordered like any other.
    ///
    /// # Errors
    /// [`Error::Data`] if a set is empty or a score is NaN.
    pub fn new(inside: &[f64], outside: &[f64]) -> Result<Self> {
        if inside.is_empty() || outside.is_empty() {
            return Err(Error::Data("detection needs scores of both in-distribution and OOD images".into()));
        }
        for (side, scores) in [("in-distribution", inside), ("OOD", outside)] {
            if let Some(i) = scores.iter().position(|s| s.is_nan()) {
                return Err(Error::Data(format!("score {i} of the {side} images is NaN")));
            }
        }
        let all: Vec<f64> = inside.iter().chain(outside).copied().collect();
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_unstable_by(|a, b| all[*b].total_cmp(&all[*a]));
        let mut group = vec![0; all.len()];
        let mut groups = 0;
        // Compared as numbers, so that −0 and 0 tie although they are sorted apart.
        for ties in order.chunk_by(|a, b| all[*a] == all[*b]) {
            ties.iter().for_each(|i| group[*i] = groups as u32);
            groups += 1;
        }
        let outside = group.split_off(inside.len());
        Ok(Self { inside: group, outside, groups })
    }

    /// The metrics, without intervals.
    pub fn separation(&self) -> Separation {
        let [mut p, mut n] = [vec![0; self.groups], vec![0; self.groups]];
        self.inside.iter().for_each(|g| p[*g as usize] += 1);
        self.outside.iter().for_each(|g| n[*g as usize] += 1);
        separation(&p, &n)
    }

    /// The metrics with 95 % confidence intervals: percentiles of `replicates` bootstrap replicates, which draw both sets
    /// with replacement.
    pub fn bootstrap(&self, replicates: usize, seed: u64) -> Separation<Estimate> {
        let point = self.separation();
        let mut draws: [Vec<f64>; 4] = Default::default();
        let [mut p, mut n] = [vec![0; self.groups], vec![0; self.groups]];
        for r in 0..replicates {
            let mut rng = Philox::new(seed, streams::EVAL, eval_stream::BOOTSTRAP + r as u32);
            for (side, counts) in [(&self.inside, &mut p), (&self.outside, &mut n)] {
                counts.fill(0);
                for _ in 0..side.len() {
                    counts[side[rng.below(side.len() as u32) as usize] as usize] += 1;
                }
            }
            let s = separation(&p, &n);
            for (all, v) in draws.iter_mut().zip([s.auroc, s.fpr95, s.aupr_in, s.aupr_out]) {
                all.push(v);
            }
        }
        let [auroc, fpr95, aupr_in, aupr_out] = draws.map(Estimate::percentiles);
        Separation {
            auroc: auroc(point.auroc),
            fpr95: fpr95(point.fpr95),
            aupr_in: aupr_in(point.aupr_in),
            aupr_out: aupr_out(point.aupr_out),
        }
    }
}

/// The metrics from the numbers of in-distribution and OOD images in each group, highest scores first. Neither set is
/// empty.
fn separation(inside: &[u32], outside: &[u32]) -> Separation {
    let sum = |v: &[u32]| v.iter().map(|c| u64::from(*c)).sum::<u64>();
    let (all_in, all_out) = (sum(inside), sum(outside));
    // Twice the number of correctly ordered pairs, so that ties count as integers.
    let (mut twice, mut seen_in, mut seen_out) = (0u128, 0u64, 0u64);
    let (mut fpr95, mut aupr_in) = (None, 0.0);
    for (p, n) in inside.iter().zip(outside) {
        let (p, n) = (u64::from(*p), u64::from(*n));
        twice += u128::from(p) * u128::from(2 * (all_out - seen_out) - n);
        (seen_in, seen_out) = (seen_in + p, seen_out + n);
        if p > 0 {
            aupr_in += p as f64 / all_in as f64 * (seen_in as f64 / (seen_in + seen_out) as f64);
        }
        if fpr95.is_none() && seen_in as f64 / all_in as f64 >= TPR {
            fpr95 = Some(seen_out as f64 / all_out as f64);
        }
    }
    // From the lowest score up, with the sides exchanged.
    let (mut aupr_out, mut below_in, mut below_out) = (0.0, 0u64, 0u64);
    for (p, n) in inside.iter().zip(outside).rev() {
        (below_in, below_out) = (below_in + u64::from(*p), below_out + u64::from(*n));
        if *n > 0 {
            aupr_out += f64::from(*n) / all_out as f64 * (below_out as f64 / (below_in + below_out) as f64);
        }
    }
    let auroc = twice as f64 / (2.0 * all_in as f64 * all_out as f64);
    Separation { auroc, fpr95: fpr95.unwrap_or(1.0), aupr_in, aupr_out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::rng::Stream;
    use jempp::metrics::auroc;
    use proptest::prelude::*;

    #[test]
    fn by_hand() {
        // From the top: in, tie of in and out, out, in.
        let r = Ranking::new(&[3.0, 2.0, 0.0], &[2.0, 1.0]).unwrap();
        let s = r.separation();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(s.auroc, (2.0 + 1.5) / 6.0);
        close(s.fpr95, 1.0);
        close(s.aupr_in, (1.0 + 2.0 / 3.0 + 3.0 / 5.0) / 3.0);
        // From the bottom: in, out, tie of both, in.
        close(s.aupr_out, (1.0 / 2.0 + 2.0 / 4.0) / 2.0);
        // 19 of 20 pass from 1 up: the threshold is there.
        let inside: Vec<f64> = (0..20).map(f64::from).collect();
        close(Ranking::new(&inside, &[0.5, 1.0, 7.0, -1.0]).unwrap().separation().fpr95, 0.5);
        assert!(Ranking::new(&[f64::NAN], &[0.0]).unwrap_err().to_string().contains("NaN"));
        assert!(Ranking::new(&[], &[0.0]).is_err());
    }

    #[test]
    fn intervals_hold_the_value_and_shrink() {
        let scores = |n: usize, shift: f64| -> Vec<f64> {
            let mut rng = Philox::new(3, Stream::TEST, n as u32);
            (0..n).map(|_| f64::from(rng.normal()) + shift).collect()
        };
        let width = |n| {
            let r = Ranking::new(&scores(n, 1.0), &scores(n + 1, 0.0)).unwrap();
            let s = r.bootstrap(500, 7);
            for e in [s.auroc, s.fpr95, s.aupr_in, s.aupr_out] {
                assert!(e.low < e.value && e.value < e.high, "{e:?}");
            }
            assert_eq!(s, r.bootstrap(500, 7));
            // Hanley & McNeil (1982) for this AUROC of about 0.76.
            let (a, m) = (s.auroc.value, n as f64);
            let (q1, q2) = (a / (2.0 - a), 2.0 * a * a / (1.0 + a));
            let se = ((a * (1.0 - a) + (m - 1.0) * (q1 + q2 - 2.0 * a * a)) / (m * m)).sqrt();
            let got = (s.auroc.high - s.auroc.low) / (2.0 * 1.96);
            assert!((got / se - 1.0).abs() < 0.2, "{got} {se}");
            s.auroc.high - s.auroc.low
        };
        assert!(width(1600) < 0.7 * width(400));
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            p in proptest::collection::vec(-6i32..6, 1..40), n in proptest::collection::vec(-6i32..6, 1..40),
        ) {
            let wide = |v: &[i32]| v.iter().map(|v| f64::from(*v) / 3.0).collect::<Vec<_>>();
            let (p, n) = (wide(&p), wide(&n));
            let s = Ranking::new(&p, &n).unwrap().separation();
            prop_assert!((s.auroc - auroc(&p, &n).unwrap()).abs() < 1e-12);
            let negated = |v: &[f64]| v.iter().map(|v| -v).collect::<Vec<_>>();
            let back = Ranking::new(&negated(&n), &negated(&p)).unwrap().separation();
            prop_assert!((back.auroc - s.auroc).abs() < 1e-12);
            prop_assert!((back.aupr_in - s.aupr_out).abs() < 1e-12);
            prop_assert!((back.aupr_out - s.aupr_in).abs() < 1e-12);
            let most = p.iter().filter(|t| p.iter().filter(|v| v >= t).count() as f64 >= 0.95 * p.len() as f64);
            let t = most.copied().fold(f64::NEG_INFINITY, f64::max);
            let passed = n.iter().filter(|v| **v >= t).count() as f64 / n.len() as f64;
            prop_assert!((s.fpr95 - passed).abs() < 1e-12);
        }
    }
}
