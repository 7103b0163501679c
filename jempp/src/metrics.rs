//! Evaluation metrics of classifiers and detectors, all computed in float64.
//!
//! Invariant: no metric is computed from a NaN: functions whose input may contain one return an error.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// log Σ exp(x), without overflow. −∞ for no values; NaN if any is NaN or +∞.
pub fn logsumexp(x: &[f32]) -> f64 {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY {
        return if x.iter().any(|v| v.is_nan()) { f64::NAN } else { f64::NEG_INFINITY };
    }
    let max = f64::from(max);
    max + x.iter().map(|v| (f64::from(*v) - max).exp()).sum::<f64>().ln()
}

/// Writes the softmax of `logits` to `out`, up to the shorter length. NaN where [`logsumexp`] is NaN.
pub fn softmax(logits: &[f32], out: &mut [f64]) {
    let lse = logsumexp(logits);
    for (p, l) in out.iter_mut().zip(logits) {
        *p = (f64::from(*l) - lse).exp();
    }
}

/// The index of the largest value, the first if there are several; 0 for no values.
pub fn argmax(x: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in x.iter().enumerate() {
        if *v > x[best] {
            best = i;
        }
    }
    best
}

/// Validated logits (n×classes) and labels of n images.
#[derive(Clone, Copy, Debug)]
pub struct LabelledLogits<'a> {
    logits: &'a [f32],
    classes: usize,
    labels: &'a [u16],
}

impl<'a> LabelledLogits<'a> {
    /// Validates logits (n×`classes`) and n labels, n ≥ 1.
    ///
    /// # Errors
    /// [`Error::Data`] when lengths do not match, there is no image, a label is out of range or a logit is not finite.
    pub fn new(logits: &'a [f32], classes: usize, labels: &'a [u16]) -> Result<Self> {
        let (n, m) = (labels.len(), logits.len());
        if n == 0 || classes == 0 || n.checked_mul(classes) != Some(m) {
            return Err(Error::Data(format!("{m} logits do not match {n} labels of {classes} classes")));
        }
        if let Some(i) = labels.iter().position(|l| usize::from(*l) >= classes) {
            return Err(Error::Data(format!("label {} of image {i} is not below {classes}", labels[i])));
        }
        if let Some(i) = logits.iter().position(|l| !l.is_finite()) {
            let (image, class) = (i / classes, i % classes);
            return Err(Error::Data(format!("the logit of class {class} of image {image} is {}", logits[i])));
        }
        Ok(Self { logits, classes, labels })
    }

    fn rows(&self) -> impl Iterator<Item = (&'a [f32], usize)> {
        self.logits.chunks_exact(self.classes).zip(self.labels.iter().map(|l| usize::from(*l)))
    }

    fn mean(&self, f: impl FnMut((&'a [f32], usize)) -> f64) -> f64 {
        self.rows().map(f).sum::<f64>() / self.labels.len() as f64
    }

    /// Fraction of images whose label has the largest logit.
    pub fn accuracy(&self) -> f64 {
        self.mean(|(row, y)| f64::from(u8::from(argmax(row) == y)))
    }

    /// Negative log-likelihood: mean of −log p(y|x), in nats.
    pub fn nll(&self) -> f64 {
        self.mean(|(row, y)| logsumexp(row) - f64::from(row[y]))
    }

    /// Brier score: mean of Σ_k (p_k − [y = k])², in [0, 2] (Brier, 1950, for several classes).
    pub fn brier(&self) -> f64 {
        let mut p = vec![0.0; self.classes];
        self.mean(|(row, y)| {
            softmax(row, &mut p);
            p[y] -= 1.0;
            p.iter().map(|p| p * p).sum()
        })
    }

    /// Confidence max_y p(y|x) of each image.
    pub fn confidences(&self) -> Vec<f64> {
        self.rows().map(|(row, _)| (f64::from(row[argmax(row)]) - logsumexp(row)).exp().min(1.0)).collect()
    }

    /// Whether each image is classified correctly.
    pub fn correct(&self) -> Vec<bool> {
        self.rows().map(|(row, y)| argmax(row) == y).collect()
    }

    /// Confidence and accuracy per confidence bin; see [`reliability`].
    ///
    /// # Errors
    /// [`Error::Data`] when `bins` is 0.
    pub fn reliability(&self, bins: usize) -> Result<Vec<Bin>> {
        reliability(&self.confidences(), &self.correct(), bins)
    }

    /// Expected calibration error; see [`ece`].
    ///
    /// # Errors
    /// [`Error::Data`] when `bins` is 0.
    pub fn ece(&self, bins: usize) -> Result<f64> {
        Ok(ece(&self.reliability(bins)?))
    }
}

/// One bin of a reliability diagram: the images whose confidence lies in (lo, hi].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Lower end, excluded.
    pub lo: f64,
    /// Upper end, included.
    pub hi: f64,
    /// Number of images.
    pub count: usize,
    /// Their mean confidence; 0 if there are none.
    pub confidence: f64,
    /// Accuracy on them; 0 if there are none.
    pub accuracy: f64,
}

/// The reliability diagram: groups images into `bins` bins (i/bins, (i+1)/bins] of equal width by confidence (Guo et
/// al., ICML 2017). `correct` says which images are classified correctly.
///
/// # Errors
/// [`Error::Data`] when `bins` is 0, lengths differ, or a confidence is not in (0, 1].
pub fn reliability(confidence: &[f64], correct: &[bool], bins: usize) -> Result<Vec<Bin>> {
    if bins == 0 || confidence.len() != correct.len() {
        let (n, m) = (confidence.len(), correct.len());
        return Err(Error::Data(format!(
            "{n} confidences and {m} predictions cannot be put into {bins} bins"
        )));
    }
    let end = |i: usize| i as f64 / bins as f64;
    let mut sums = vec![(0usize, 0.0f64, 0usize); bins];
    for (i, (c, right)) in confidence.iter().zip(correct).enumerate() {
        if !(*c > 0.0 && *c <= 1.0) {
            return Err(Error::Data(format!("the confidence of image {i} is {c}, which is not in (0, 1]")));
        }
        // The product may round across a bin boundary, so the boundaries themselves decide.
        let mut b = ((c * bins as f64).ceil() as usize).clamp(1, bins) - 1;
        while b > 0 && *c <= end(b) {
            b -= 1;
        }
        while b + 1 < bins && *c > end(b + 1) {
            b += 1;
        }
        sums[b].0 += 1;
        sums[b].1 += c;
        sums[b].2 += usize::from(*right);
    }
    let bin = |(i, (count, sum, right)): (usize, (usize, f64, usize))| {
        let n = count.max(1) as f64;
        Bin { lo: end(i), hi: end(i + 1), count, confidence: sum / n, accuracy: right as f64 / n }
    };
    Ok(sums.into_iter().enumerate().map(bin).collect())
}

/// Expected calibration error: Σ |B|/n · |accuracy − confidence| over the bins; 0 if there are no images.
pub fn ece(bins: &[Bin]) -> f64 {
    let n = bins.iter().map(|b| b.count).sum::<usize>().max(1) as f64;
    bins.iter().map(|b| b.count as f64 / n * (b.accuracy - b.confidence).abs()).sum()
}

/// Area under the ROC curve: the probability that a score of `positive` is above one of `negative`, ties counting ½
/// (Mann & Whitney, 1947). Exact, in O(n log n). Infinite scores are ordered like any other.
///
/// # Errors
/// [`Error::Data`] when either slice is empty or a score is NaN.
pub fn auroc(positive: &[f64], negative: &[f64]) -> Result<f64> {
    if positive.is_empty() || negative.is_empty() {
        return Err(Error::Data("an AUROC needs positive and negative scores".to_string()));
    }
    for (side, scores) in [("positive", positive), ("negative", negative)] {
        if let Some(i) = scores.iter().position(|s| s.is_nan()) {
            return Err(Error::Data(format!("{side} score {i} is NaN")));
        }
    }
    let mut all: Vec<(f64, bool)> =
        positive.iter().map(|s| (*s, true)).chain(negative.iter().map(|s| (*s, false))).collect();
    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    // Twice the number of ordered pairs, so that ties are integers.
    let (mut twice, mut below) = (0u128, 0u128);
    // Compared as numbers, so that −0 and 0 tie although the sort separates them.
    for ties in all.chunk_by(|a, b| a.0 == b.0) {
        let p = ties.iter().filter(|t| t.1).count() as u128;
        let n = ties.len() as u128 - p;
        twice += p * (2 * below + n);
        below += n;
    }
    Ok(twice as f64 / (2.0 * positive.len() as f64 * negative.len() as f64))
}

/// The logits divided by a temperature.
pub fn scaled(logits: &[f32], temperature: f64) -> Vec<f32> {
    logits.iter().map(|l| (f64::from(*l) / temperature) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }

    #[test]
    fn logsumexp_and_softmax() {
        close(logsumexp(&[0.0, 0.0]), 2f64.ln());
        close(logsumexp(&[1000.0, 1000.0]), 1000.0 + 2f64.ln());
        close(logsumexp(&[-1000.0]), -1000.0);
        assert_eq!(logsumexp(&[]), f64::NEG_INFINITY);
        assert!(logsumexp(&[f32::NAN, 1.0]).is_nan() && logsumexp(&[f32::NAN]).is_nan());
        let mut p = [0.0; 3];
        softmax(&[1f32, 2.0, 3.0], &mut p);
        let e = 1f64.exp();
        close(p[2], e * e / (1.0 + e + e * e));
        close(p.iter().sum(), 1.0);
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
    }

    /// Two classes with logits (0, ln 3): p = (¼, ¾).
    #[test]
    fn scores_by_hand() {
        let l = 3f32.ln();
        let logits = [0.0, l, 0.0, l, l, 0.0, 0.0, 0.0];
        let labels = [1, 0, 0, 1];
        let p = LabelledLogits::new(&logits, 2, &labels).unwrap();
        // Right, wrong, right, and a tie that goes to the first class: wrong.
        assert_eq!(p.correct(), [true, false, true, false]);
        close(p.accuracy(), 0.5);
        let (q, t) = (f64::from(l).exp() / (1.0 + f64::from(l).exp()), 0.25f64);
        close(p.nll(), -(q.ln() + (1.0 - q).ln() + q.ln() + 0.5f64.ln()) / 4.0);
        assert!((p.brier() - (2.0 * t * t + 2.0 * 0.75 * 0.75 + 2.0 * t * t + 0.5) / 4.0).abs() < 1e-6);
        // Bins of ¼: 0.5 goes into (¼, ½], the three near ¾ around the end of (½, ¾].
        let want = 0.25 * 0.5 + 0.75 * (2.0 / 3.0 - 0.75f64).abs();
        assert!((p.ece(2).unwrap() - want).abs() < 1e-6);
    }

    #[test]
    fn bins_are_open_below_and_closed_above() {
        for bins in [1, 3, 10, 15, 20, 49] {
            for i in 1..=bins {
                let end = i as f64 / bins as f64;
                let r = reliability(&[end, end.next_down()], &[true, false], bins).unwrap();
                assert_eq!(r[i - 1].count, 2, "{i}/{bins}");
                if i < bins {
                    assert_eq!(reliability(&[end.next_up()], &[true], bins).unwrap()[i].count, 1);
                }
            }
        }
        let r = reliability(&[0.05, 0.93, 0.97, 0.99], &[true, true, false, true], 20).unwrap();
        assert_eq!((r[0].count, r[18].count, r[19].count), (1, 1, 2));
        close(ece(&r), 0.25 * 0.95 + 0.25 * 0.07 + 0.5 * (0.98 - 0.5));
        close(ece(&[]), 0.0);
        for bad in [f64::NAN, 0.0, 1.1] {
            assert!(reliability(&[bad], &[true], 20).is_err());
        }
        assert!(reliability(&[0.5], &[], 20).is_err() && reliability(&[], &[], 0).is_err());
    }

    #[test]
    fn bad_predictions_are_refused() {
        let text = |l: &[f32], y: &[u16]| LabelledLogits::new(l, 2, y).unwrap_err().to_string();
        assert!(text(&[0.0, 1.0, f32::NAN, 0.0], &[0, 0]).contains("class 0 of image 1 is NaN"));
        assert!(text(&[0.0; 3], &[0]).contains("3 logits"));
        assert!(text(&[0.0; 2], &[2]).contains("label 2 of image 0"));
        assert!(text(&[], &[]).contains("0 logits"));
    }

    #[test]
    fn auroc_by_hand() {
        close(auroc(&[2.0, 3.0], &[0.0, 1.0]).unwrap(), 1.0);
        close(auroc(&[0.0], &[1.0]).unwrap(), 0.0);
        close(auroc(&[1.0, 1.0], &[1.0]).unwrap(), 0.5);
        close(auroc(&[0.0], &[-0.0]).unwrap(), 0.5);
        // Pairs: 1>0, 1=1 (½), 3>0, 3>1 of 4.
        close(auroc(&[1.0, 3.0], &[0.0, 1.0]).unwrap(), 0.875);
        close(auroc(&[f64::INFINITY, -5.0], &[f64::NEG_INFINITY]).unwrap(), 1.0);
        assert!(auroc(&[0.0, f64::NAN], &[0.0]).unwrap_err().to_string().contains("positive score 1 is NaN"));
        assert!(auroc(&[], &[0.0]).is_err());
    }

    proptest! {
        #[test]
        fn auroc_is_the_fraction_of_ordered_pairs(
            p in proptest::collection::vec(-6i32..6, 1..40), n in proptest::collection::vec(-6i32..6, 1..40),
        ) {
            let (p, n): (Vec<f64>, Vec<f64>) =
                (p.iter().map(|v| f64::from(*v) / 3.0).collect(), n.iter().map(|v| f64::from(*v) / 3.0).collect());
            let mut sum = 0.0;
            for a in &p {
                for b in &n {
                    sum += if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 };
                }
            }
            let brute = sum / (p.len() * n.len()) as f64;
            prop_assert!((auroc(&p, &n).unwrap() - brute).abs() < 1e-12);
            prop_assert!((auroc(&n, &p).unwrap() - (1.0 - brute)).abs() < 1e-12);
        }
    }
}
