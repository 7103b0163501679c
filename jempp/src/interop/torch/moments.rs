//! Start samples from the published files of class means and covariances.
//!
//! A mean file holds a tensor [classes, C·H·W] (or [classes, C, H, W]), a covariance file [classes, C·H·W, C·H·W]. As
//! in the published code, chains start from draws of N(μ_y, Σ_y + 10⁻⁴ I), clipped to [−1, 1].

use crate::error::{Error, Result};
use crate::model::StartSamples;
use crate::streams;
use engine::rng::Philox;
use jempp_formats::container::{TensorData, layout};
use jempp_formats::torch::{Saved, View};
use std::path::Path;

/// Added to the variance of each pixel value, as in the published code.
const RIDGE: f64 = 1e-4;

/// Means and covariances of the pixel values of each class.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    classes: usize,
    values: usize,
    /// classes × values, in the order of files, C×H×W.
    means: Vec<f32>,
    /// classes × values × values.
    covariances: Vec<f32>,
}

/// Reads a mean file and a covariance file, each given as its bytes and its path, which error messages name.
///
/// # Errors
/// [`Error::Format`] when one is damaged, their shapes do not match, or they hold values that are not finite.
pub fn moments(mean: (&[u8], &Path), covariance: (&[u8], &Path)) -> Result<Moments> {
    let (mean, shape) = floats(mean)?;
    let classes = shape.first().copied().unwrap_or(0);
    let values = shape.iter().skip(1).product::<usize>();
    let path = covariance.1;
    let (covariances, found) = floats(covariance)?;
    if classes == 0 || values == 0 || found != [classes, values, values] {
        return Err(Error::Format(format!(
            "{}: covariances {found:?} do not match means {shape:?}: expected {:?}",
            path.display(),
            [classes, values, values]
        )));
    }
    Ok(Moments { classes, values, means: mean, covariances })
}

/// The values and the shape of the only tensor in a file of `torch.save`, given as its bytes and its path.
///
/// # Errors
/// [`Error::Format`] when the file is damaged, holds no tensor or several, or values that are not finite floats.
pub fn floats((bytes, source): (&[u8], &Path)) -> Result<(Vec<f32>, Vec<usize>)> {
    let saved = Saved::open(bytes, source)?;
    let tensor = saved.read("the tensor", &single_tensor(&saved)?)?;
    let TensorData::F32(values) = tensor.data else {
        return Err(saved.wrong("a tensor of integers; floats are needed").into());
    };
    match values.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(saved.wrong(format!("value {i} of {} is {}", values.len(), values[i])).into()),
        None => Ok((values, tensor.shape)),
    }
}

/// The only tensor in a file: the object itself, or the single tensor of a dict or list.
fn single_tensor(saved: &Saved<'_>) -> Result<View> {
    let root = saved.root();
    let view =
        View::of(root).ok_or_else(|| saved.wrong(format!("it holds {}, not one tensor", root.kind())))?;
    Ok(view.map_err(|e| saved.wrong(e))?)
}

impl Moments {
    /// Draws `each` start samples per class for a model of images of `size` [H, W, C].
    ///
    /// # Errors
    /// [`Error::Data`] when size or number of classes do not match, or a covariance matrix is not positive definite.
    pub fn start_samples(
        &self,
        size: [usize; 3],
        classes: usize,
        each: usize,
        seed: u64,
    ) -> Result<StartSamples> {
        let ([h, w, c], n) = (size, self.values);
        if self.classes != classes || h * w * c != n {
            return Err(Error::Data(format!(
                "means of {} classes and {n} values do not match a model of {classes} classes and images {size:?}",
                self.classes
            )));
        }
        let mut draws = Vec::with_capacity(classes * each * n);
        for class in 0..classes {
            let factor =
                cholesky(&self.covariances[class * n * n..(class + 1) * n * n], n).map_err(|row| {
                    Error::Data(format!("class {class}: its covariance is not positive definite (row {row})"))
                })?;
            let mean = &self.means[class * n..(class + 1) * n];
            let mut rng = Philox::new(seed, streams::SAMPLE, class as u32);
            for _ in 0..each {
                let z: Vec<f64> = (0..n).map(|_| f64::from(rng.normal())).collect();
                draws.extend((0..n).map(|i| {
                    let x = f64::from(mean[i]) + dot(&factor[i * n..i * n + i + 1], &z[..=i]);
                    x.clamp(-1.0, 1.0) as f32
                }));
            }
        }
        let labels = (0..classes * each).map(|i| (i / each) as i32).collect();
        Ok(StartSamples {
            means: layout::images_to_memory([classes, c, h, w], &self.means)?,
            draws: layout::images_to_memory([classes * each, c, h, w], &draws)?,
            classes: labels,
        })
    }
}

/// The Cholesky factor L of n×n values: lower triangular, L Lᵀ = `a` + 10⁻⁴ I. Fails with the row at which the matrix
/// turns out not to be positive definite.
fn cholesky(a: &[f32], n: usize) -> Result<Vec<f64>, usize> {
    let mut l = vec![0.0f64; n * n];
    for i in 0..n {
        let (above, rest) = l.split_at_mut(i * n);
        let row = &mut rest[..n];
        for j in 0..=i {
            let other = if j < i { &above[j * n..j * n + j] } else { &[] };
            let value = f64::from(a[i * n + j]);
            if j < i {
                row[j] = (value - dot(&row[..j], other)) / above[j * n + j];
            } else {
                let square = value + RIDGE - dot(&row[..i], &row[..i]);
                if square.is_nan() || square <= 0.0 {
                    return Err(i);
                }
                row[i] = square.sqrt();
            }
        }
    }
    Ok(l)
}

/// Σ xᵢyᵢ, in eight partial sums that the compiler can vectorise.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    let ((xs, x), (ys, y)) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (x, y) in xs.iter().zip(ys) {
        (0..8).for_each(|i| sums[i] += x[i] * y[i]);
    }
    sums.iter().sum::<f64>() + x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_means_and_covariances_of_their_class() {
        // Images 1×2 with one channel: two correlated values.
        let cov = [0.04f32, 0.02, 0.02, 0.03];
        let moments = Moments {
            classes: 2,
            values: 2,
            means: vec![0.1, -0.2, 0.0, 0.3],
            covariances: [cov, [0.01, 0.0, 0.0, 0.02]].concat(),
        };
        let each = 20_000;
        let samples = moments.start_samples([1, 2, 1], 2, each, 3).unwrap();
        assert_eq!((samples.classes.len(), samples.classes[each]), (2 * each, 1));
        assert_eq!(samples.means, [0.1, -0.2, 0.0, 0.3]);
        let of = |i: usize| -> Vec<f64> {
            samples.draws[..2 * each]
                .chunks_exact(2)
                .map(|d| f64::from(d[i]) - f64::from(moments.means[i]))
                .collect()
        };
        let (x, y) = (of(0), of(1));
        let mean = |f: &dyn Fn(usize) -> f64| (0..each).map(f).sum::<f64>() / each as f64;
        assert!(mean(&|i| x[i]).abs() < 0.005 && mean(&|i| y[i]).abs() < 0.005);
        for (got, want) in [
            (mean(&|i| x[i] * x[i]), 0.0401),
            (mean(&|i| x[i] * y[i]), 0.02),
            (mean(&|i| y[i] * y[i]), 0.0301),
        ] {
            assert!((got - want).abs() < 0.001, "{got} {want}");
        }
        assert!(moments.start_samples([2, 2, 1], 2, 1, 0).is_err());
    }

    #[test]
    fn matrices_that_are_not_positive_definite_are_refused() {
        assert_eq!(cholesky(&[1.0, 2.0, 2.0, 1.0], 2), Err(1));
        assert_eq!(cholesky(&[f32::NAN], 1), Err(0));
        let l = cholesky(&[4.0, 2.0, 2.0, 3.0], 2).unwrap();
        assert!((l[0] - 4.0001f64.sqrt()).abs() < 1e-12 && l[1] == 0.0);
        assert!((l[2] * l[2] + l[3] * l[3] - 3.0001).abs() < 1e-12);
    }
}
