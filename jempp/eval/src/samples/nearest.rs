//! Nearest neighbours among the training images, by root mean square difference: a check for memorisation.

use crate::progress::{ProgressFn, report_progress};
use jempp::{Error, Result};
use jempp_data::{Dataset, value};
use serde::{Deserialize, Serialize};

/// Distances of samples to their nearest training images: root mean square differences of values in [−1, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NearestNeighbours {
    /// Number of samples.
    pub n: usize,
    /// Median distance of the samples.
    pub median: f64,
    /// Smallest distance of the samples.
    pub least: f64,
    /// Median distance of test images, for comparison.
    pub median_test: f64,
    /// Smallest distance of test images.
    pub least_test: f64,
}

impl NearestNeighbours {
    /// Summarises the neighbours of samples and of test images, as [`nearest_neighbours`] returns them.
    pub(super) fn new(samples: &[Vec<(u32, f64)>], test: &[Vec<(u32, f64)>]) -> Self {
        let sorted = |all: &[Vec<(u32, f64)>]| {
            let mut d: Vec<f64> = all.iter().filter_map(|n| n.first().map(|n| n.1)).collect();
            d.sort_unstable_by(f64::total_cmp);
            let at = |i: usize| d.get(i).copied().unwrap_or(f64::NAN);
            (at(d.len() / 2), at(0))
        };
        let ((median, least), (median_test, least_test)) = (sorted(samples), sorted(test));
        Self { n: samples.len(), median, least, median_test, least_test }
    }
}

/// For each image (n×H×W×C in [−1, 1]) the indices and distances of the `k` nearest of the images `among` of `set`, nearest
/// first.
///
/// # Errors
/// [`Error::Data`] if an index is out of range; [`Error::Cancelled`].
pub(super) fn nearest_neighbours(
    set: &Dataset,
    among: &[u32],
    images: &[f32],
    k: usize,
    progress: &mut ProgressFn<'_>,
) -> Result<Vec<Vec<(u32, f64)>>> {
    let px = set.pixels();
    let values: Vec<f32> = (0..=255u8).map(value).collect();
    let n = images.len() / px;
    let mut out = Vec::with_capacity(n);
    for (i, image) in images.chunks_exact(px).enumerate() {
        report_progress(progress, "nearest training images", i, n)?;
        let mut best: Vec<(u32, f32)> = Vec::with_capacity(k + 1);
        for index in among {
            let other =
                set.image(*index).ok_or_else(|| Error::Data(format!("image {index} is out of range")))?;
            let limit = if best.len() < k { f32::INFINITY } else { best.last().map_or(0.0, |b| b.1) };
            let Some(sum) = below(image, other, &values, limit) else { continue };
            let at = best.partition_point(|b| b.1 <= sum);
            best.insert(at, (*index, sum));
            best.truncate(k);
        }
        out.push(best.iter().map(|(i, sum)| (*i, (f64::from(*sum) / px as f64).sqrt())).collect());
    }
    report_progress(progress, "nearest training images", n, n)?;
    Ok(out)
}

/// The sum of squared differences, if it is below `limit`. For most images the limit is exceeded after a part of the values.
fn below(image: &[f32], other: &[u8], values: &[f32], limit: f32) -> Option<f32> {
    let mut sum = 0.0;
    for (a, b) in image.chunks(64).zip(other.chunks(64)) {
        sum += a.iter().zip(b).map(|(a, b)| (a - values[usize::from(*b)]).powi(2)).sum::<f32>();
        if sum >= limit {
            return None;
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jempp::evaluation::images;

    #[test]
    fn an_image_is_nearest_to_itself() {
        let bytes: Vec<u8> = (0..30 * 80).map(|i| (i * i * 7 % 253) as u8).collect();
        let set = Dataset::new("x", [8, 10, 1], 2, bytes, vec![0; 30]).unwrap();
        let all: Vec<u32> = (0..30).collect();
        let asked = images(&set, &[4, 17]).unwrap();
        let found = nearest_neighbours(&set, &all, &asked, 3, &mut |_, _, _| true).unwrap();
        assert_eq!((found[0][0], found[1][0]), ((4, 0.0), (17, 0.0)));
        // Sorting all distances must give the same.
        let rest = images(&set, &all).unwrap();
        let mut d: Vec<f64> = rest
            .chunks(80)
            .map(|b| {
                (asked[..80].iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / 80.0).sqrt()
            })
            .collect();
        d.sort_unstable_by(f64::total_cmp);
        assert!(found[0].iter().zip(&d).all(|(a, b)| (a.1 - b).abs() < 1e-6));
        let near = NearestNeighbours::new(&found, &found[1..]);
        assert_eq!((near.n, near.least, near.median_test), (2, 0.0, 0.0));
        assert!(nearest_neighbours(&set, &[30], &asked, 1, &mut |_, _, _| true).is_err());
    }
}
