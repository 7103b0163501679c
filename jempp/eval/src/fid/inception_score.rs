//! The Inception score (Salimans et al., "Improved Techniques for Training GANs", 2016): exp of the mean KL(p(y|x) ‖ p(y)), in
//! each of ten contiguous splits of the images.

use jempp::metrics::softmax;
use jempp::{Error, Result};
use serde::{Deserialize, Serialize};

/// Number of contiguous splits of the images.
const SPLITS: usize = 10;

/// Mean and standard deviation of the scores of the splits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InceptionScore {
    /// Mean over the splits.
    pub mean: f64,
    /// Standard deviation over the splits, with their number as divisor.
    pub std: f64,
    /// Number of splits.
    pub splits: usize,
}

/// Sums over predictions, from which the score is computed.
#[derive(Clone, Debug)]
pub struct InceptionScoreSums {
    n: usize,
    classes: usize,
    added: usize,
    /// For each split: Σ Σ_k p_k ln p_k over its images, and Σ p.
    splits: Vec<(f64, Vec<f64>)>,
}

impl InceptionScoreSums {
    /// Empty sums, for `n` images.
    pub fn new(n: usize, classes: usize) -> Self {
        Self { n, classes, added: 0, splits: vec![(0.0, vec![0.0; classes]); SPLITS] }
    }

    /// Adds the next m images by their logits, m×classes.
    pub fn add(&mut self, logits: &[f32]) {
        let mut p = vec![0.0; self.classes];
        for row in logits.chunks_exact(self.classes) {
            softmax(row, &mut p);
            // Split i holds images ⌊i·n/10⌋ to ⌊(i+1)·n/10⌋.
            let split = ((self.added + 1) * SPLITS).div_ceil(self.n.max(1)) - 1;
            self.added += 1;
            let Some((sum, of)) = self.splits.get_mut(split) else { continue };
            *sum += p.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>();
            of.iter_mut().zip(&p).for_each(|(of, p)| *of += p);
        }
    }

    /// The score; `None` if there are fewer images than splits.
    ///
    /// # Errors
    /// [`Error::Internal`] if another number of images has been added than announced.
    pub fn score(&self) -> Result<Option<InceptionScore>> {
        if self.added != self.n {
            return Err(Error::Internal(format!("{} images scored of {}", self.added, self.n)));
        }
        if self.n < SPLITS {
            return Ok(None);
        }
        let of = |i: usize| {
            let m = ((i + 1) * self.n / SPLITS - i * self.n / SPLITS) as f64;
            let (sum, p) = &self.splits[i];
            let marginal: f64 = p.iter().filter(|p| **p > 0.0).map(|p| p / m * (p / m).ln()).sum();
            (sum / m - marginal).exp()
        };
        let scores: Vec<f64> = (0..SPLITS).map(of).collect();
        let mean = scores.iter().sum::<f64>() / SPLITS as f64;
        let variance = scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / SPLITS as f64;
        Ok(Some(InceptionScore { mean, std: variance.sqrt(), splits: SPLITS }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confident_and_balanced_predictions_score_the_number_of_classes() {
        // Each split of 4 images holds each of 4 classes once, predicted with certainty.
        let logits: Vec<f32> =
            (0..40).flat_map(|i| (0..4).map(move |k| if k == i % 4 { 99.0 } else { 0.0 })).collect();
        let mut s = InceptionScoreSums::new(40, 4);
        s.add(&logits[..12 * 4]);
        s.add(&logits[12 * 4..]);
        let s = s.score().unwrap().unwrap();
        assert!((s.mean - 4.0).abs() < 1e-9 && s.std < 1e-9, "{s:?}");
        let mut same = InceptionScoreSums::new(10, 4);
        same.add(&[1.0; 40]);
        assert!((same.score().unwrap().unwrap().mean - 1.0).abs() < 1e-12);
        assert!(same.score().unwrap().is_some() && InceptionScoreSums::new(9, 4).score().is_err());
    }
}
