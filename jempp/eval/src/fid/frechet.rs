//! The Fréchet distance of two Gaussians (Dowson and Landau, 1982), ‖μ₁ − μ₂‖² + tr(S₁ + S₂ − 2(S₁S₂)^½), in float64.
//!
//! Invariant: statistics depend on the features and their order, not on how these are grouped when they are added.

use super::symmetric::{add_product, eigenvalues, eigenvectors};
use jempp::{Error, Result};

/// Images whose products are accumulated together, however many are added at a time.
const ROWS: usize = 128;

/// Mean and covariance of the features of a set of images.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureStatistics {
    /// Number of images, if it is known.
    pub n: Option<usize>,
    /// d means.
    pub mean: Vec<f64>,
    /// d×d sample covariance, with the divisor n − 1.
    pub covariance: Vec<f64>,
}

/// Sums over features, from which mean and covariance are computed.
#[derive(Clone, Debug)]
pub struct FeatureSums {
    /// Subtracted from all features, to avoid cancellation: the features of the first image.
    origin: Vec<f64>,
    n: usize,
    sum: Vec<f64>,
    /// d×d sums of products; only the lower triangle is valid.
    products: Vec<f64>,
    /// Features of fewer than [`ROWS`] images that are not part of the sums yet.
    rest: Vec<f64>,
}

impl FeatureSums {
    /// Empty sums, for images of `d` features each.
    pub fn new(d: usize) -> Self {
        Self { origin: Vec::new(), n: 0, sum: vec![0.0; d], products: vec![0.0; d * d], rest: Vec::new() }
    }

    /// Adds the features of n images, n×d.
    pub fn add(&mut self, features: &[f32]) {
        let d = self.sum.len();
        for row in features.chunks_exact(d) {
            if self.n == 0 {
                self.origin = row.iter().map(|v| f64::from(*v)).collect();
            }
            self.n += 1;
            self.rest.extend(row.iter().zip(&self.origin).map(|(v, o)| f64::from(*v) - o));
            if self.rest.len() == ROWS * d {
                let rows = std::mem::take(&mut self.rest);
                self.flush(&rows);
            }
        }
    }

    fn flush(&mut self, rows: &[f64]) {
        let d = self.sum.len();
        for row in rows.chunks_exact(d) {
            self.sum.iter_mut().zip(row).for_each(|(s, v)| *s += v);
        }
        add_product(&mut self.products, rows, d, rows, d, true);
    }

    /// Mean and covariance.
    ///
    /// # Errors
    /// [`Error::Data`] for fewer than two images, or if a feature is not finite.
    pub fn statistics(mut self) -> Result<FeatureStatistics> {
        let rows = std::mem::take(&mut self.rest);
        self.flush(&rows);
        let (n, d) = (self.n as f64, self.sum.len());
        if self.n < 2 {
            return Err(Error::Data(format!("{} images have no covariance; take more", self.n)));
        }
        if !self.sum.iter().all(|v| v.is_finite()) {
            return Err(Error::Data("an Inception feature is not finite: check the weights".into()));
        }
        let entry = |i: usize, j: usize| {
            let (i, j) = (i.max(j), i.min(j));
            (self.products[i * d + j] - self.sum[i] * self.sum[j] / n) / (n - 1.0)
        };
        let covariance = (0..d * d).map(|at| entry(at / d, at % d)).collect();
        let mean = self.sum.iter().zip(&self.origin).map(|(s, o)| o + s / n).collect();
        Ok(FeatureStatistics { n: Some(self.n), mean, covariance })
    }
}

/// The squared Fréchet distance, which is what is published as FID.
///
/// # Errors
/// [`Error::Data`] if the lengths differ or a value is not finite.
pub fn frechet_distance(a: &FeatureStatistics, b: &FeatureStatistics) -> Result<f64> {
    let d = a.mean.len();
    let fits = |s: &FeatureStatistics| s.mean.len() == d && s.covariance.len() == d * d;
    if !(fits(a) && fits(b)) {
        return Err(Error::Data(format!(
            "statistics of {d} and {} features cannot be compared",
            b.mean.len()
        )));
    }
    if ![a, b].iter().all(|s| s.mean.iter().chain(&s.covariance).all(|v| v.is_finite())) {
        return Err(Error::Data("feature statistics contain values that are not finite".into()));
    }
    // S₁ = VᵀΛV, so S₁S₂ has the eigenvalues of RS₂Rᵀ with R = Λ^½V, which is symmetric.
    let (values, mut r) = eigenvectors(a.covariance.clone(), d)?;
    for (row, root) in r.chunks_exact_mut(d.max(1)).zip(square_roots(&values)) {
        row.iter_mut().for_each(|v| *v *= root);
    }
    let r = transposed(&r, d);
    let mut half = vec![0.0; d * d];
    add_product(&mut half, &transposed(&b.covariance, d), d, &r, d, false);
    let mut product = vec![0.0; d * d];
    add_product(&mut product, &r, d, &half, d, true);
    let cross: f64 = square_roots(&eigenvalues(product, d)?).sum();
    let apart: f64 = a.mean.iter().zip(&b.mean).map(|(a, b)| (a - b) * (a - b)).sum();
    let trace = |s: &FeatureStatistics| (0..d).map(|i| s.covariance[i * (d + 1)]).sum::<f64>();
    Ok(apart + trace(a) + trace(b) - 2.0 * cross)
}

fn transposed(a: &[f64], d: usize) -> Vec<f64> {
    (0..d * d).map(|at| a[at % d * d + at / d]).collect()
}

/// Square roots of the eigenvalues of a positive semidefinite matrix; those within rounding error of zero count as zero.
fn square_roots(values: &[f64]) -> impl Iterator<Item = f64> {
    let least = values.iter().fold(0.0f64, |m, v| m.max(*v)) * values.len() as f64 * f64::EPSILON;
    values.iter().map(move |v| if *v > least { v.sqrt() } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mean: [f64; 2], covariance: [f64; 4]) -> FeatureStatistics {
        FeatureStatistics { n: None, mean: mean.to_vec(), covariance: covariance.to_vec() }
    }

    #[test]
    fn diagonal_covariances_have_a_closed_form() {
        let (a, b) = (of([0.0, 1.0], [4.0, 0.0, 0.0, 9.0]), of([1.0, 3.0], [1.0, 0.0, 0.0, 0.0]));
        // 1 + 4 + (2 − 1)² + 3².
        assert!((frechet_distance(&a, &b).unwrap() - 15.0).abs() < 1e-12);
        assert!(frechet_distance(&a, &a).unwrap().abs() < 1e-12);
        assert!(frechet_distance(&a, &of([0.0, 0.0], [f64::NAN; 4])).is_err());
        assert!(
            frechet_distance(&a, &FeatureSums::new(3).statistics_of(&[1.0, 2.0, 3.0, 0.0, 0.0, 0.0]))
                .is_err()
        );
    }

    impl FeatureSums {
        fn statistics_of(mut self, features: &[f32]) -> FeatureStatistics {
            self.add(features);
            self.statistics().unwrap()
        }
    }

    #[test]
    fn grouping_does_not_matter_and_one_image_is_too_few() {
        let features: Vec<f32> = (0..300 * 3).map(|i| 100.0 + (i * 37 % 101) as f32 / 7.0).collect();
        let whole = FeatureSums::new(3).statistics_of(&features);
        let mut parts = FeatureSums::new(3);
        features.chunks(7 * 3).for_each(|p| parts.add(p));
        assert_eq!(parts.statistics().unwrap(), whole);
        let column = |k: usize| features.iter().skip(k).step_by(3).map(|v| f64::from(*v));
        let mean = |k| column(k).sum::<f64>() / 300.0;
        let cov = column(0).zip(column(2)).map(|(a, b)| (a - mean(0)) * (b - mean(2))).sum::<f64>() / 299.0;
        assert!((whole.covariance[2] - cov).abs() < 1e-10 && (whole.mean[1] - mean(1)).abs() < 1e-12);
        let mut one = FeatureSums::new(3);
        one.add(&features[..3]);
        assert!(one.statistics().unwrap_err().to_string().contains("1 images"));
    }
}
