//! The Inception score (Salimans et al., "Improved Techniques for Training GANs", 2016): exp of the mean KL of p(y|x) from
//! p(y), in each of ten successive parts of the images.

use jempp::metrics::softmax;
use jempp::{Error, Result};
use serde::{Deserialize, Serialize};

/// Parts that the images are split into, in their order.
pub const SPLITS: usize = 10;

/// Mean and standard deviation (divided by the number of parts) of the scores of the parts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
    /// Parts.
    pub splits: usize,
}

/// Sums that the score is made of.
#[derive(Clone, Debug)]
pub struct Scoring {
    n: usize,
    classes: usize,
    seen: usize,
    /// Of each part: Σ Σ_k p_k ln p_k, and Σ p.
    parts: Vec<(f64, Vec<f64>)>,
}

impl Scoring {
    /// Of `n` images, none of which has been seen.
    pub fn new(n: usize, classes: usize) -> Self {
        Self { n, classes, seen: 0, parts: vec![(0.0, vec![0.0; classes]); SPLITS] }
    }

    /// Adds images by their logits, m×classes, in order.
    pub fn add(&mut self, logits: &[f32]) {
        let mut p = vec![0.0; self.classes];
        for row in logits.chunks_exact(self.classes) {
            softmax(row, &mut p);
            // Part i holds images ⌊i·n/10⌋ to ⌊(i+1)·n/10⌋.
            let part = ((self.seen + 1) * SPLITS).div_ceil(self.n.max(1)) - 1;
            self.seen += 1;
            let Some((sum, of)) = self.parts.get_mut(part) else { continue };
            *sum += p.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>();
            of.iter_mut().zip(&p).for_each(|(of, p)| *of += p);
        }
    }

    /// The score; none of fewer images than parts.
    ///
    /// # Errors
    /// [`Error::Internal`] when there were other images than announced.
    pub fn score(&self) -> Result<Option<Score>> {
        if self.seen != self.n {
            return Err(Error::Internal(format!("{} images scored of {}", self.seen, self.n)));
        }
        if self.n < SPLITS {
            return Ok(None);
        }
        let of = |i: usize| {
            let m = ((i + 1) * self.n / SPLITS - i * self.n / SPLITS) as f64;
            let (sum, p) = &self.parts[i];
            let marginal: f64 = p.iter().filter(|p| **p > 0.0).map(|p| p / m * (p / m).ln()).sum();
            (sum / m - marginal).exp()
        };
        let scores: Vec<f64> = (0..SPLITS).map(of).collect();
        let mean = scores.iter().sum::<f64>() / SPLITS as f64;
        let variance = scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / SPLITS as f64;
        Ok(Some(Score { mean, std: variance.sqrt(), splits: SPLITS }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sure_and_even_predictions_score_the_number_of_classes() {
        // Each part of 4 sees each of 4 classes once, for sure.
        let logits: Vec<f32> =
            (0..40).flat_map(|i| (0..4).map(move |k| if k == i % 4 { 99.0 } else { 0.0 })).collect();
        let mut s = Scoring::new(40, 4);
        s.add(&logits[..12 * 4]);
        s.add(&logits[12 * 4..]);
        let s = s.score().unwrap().unwrap();
        assert!((s.mean - 4.0).abs() < 1e-9 && s.std < 1e-9, "{s:?}");
        let mut same = Scoring::new(10, 4);
        same.add(&[1.0; 40]);
        assert!((same.score().unwrap().unwrap().mean - 1.0).abs() < 1e-12);
        assert!(same.score().unwrap().is_some() && Scoring::new(9, 4).score().is_err());
    }
}
