//! Axis orders: channels are last in memory and second on disk, as in PyTorch.
//!
//! Invariant: a conversion is always requested by name, with the source shape. It is never inferred from a shape,
//! because 3×3×3×3 filters have the same one in both orders.

use super::tensor::{Container, Tensor};
use crate::error::{Error, Result};

/// Converts filters from K×R×S×C (memory) to O×I×H×W (disk), where O = K, I = C, H = R and W = S.
///
/// # Errors
/// [`Error::Data`] when `values` do not fill `krsc`.
pub(crate) fn filters_to_disk<T: Copy>(krsc: [usize; 4], values: &[T]) -> Result<Vec<T>> {
    transpose("filters K×R×S×C", krsc, values, |[_, r, s, c]| [r * s, c])
}

/// Converts filters from O×I×H×W (disk) to K×R×S×C (memory).
///
/// # Errors
/// [`Error::Data`] when `values` do not fill `oihw`.
pub(crate) fn filters_to_memory<T: Copy>(oihw: [usize; 4], values: &[T]) -> Result<Vec<T>> {
    transpose("filters O×I×H×W", oihw, values, |[_, i, h, w]| [i, h * w])
}

/// Converts images from N×H×W×C (memory) to N×C×H×W (disk).
///
/// # Errors
/// [`Error::Data`] when `values` do not fill `nhwc`.
pub fn images_to_disk<T: Copy>(nhwc: [usize; 4], values: &[T]) -> Result<Vec<T>> {
    transpose("images N×H×W×C", nhwc, values, |[_, h, w, c]| [h * w, c])
}

/// Converts images from N×C×H×W (disk) to N×H×W×C (memory).
///
/// # Errors
/// [`Error::Data`] when `values` do not fill `nchw`.
pub fn images_to_memory<T: Copy>(nchw: [usize; 4], values: &[T]) -> Result<Vec<T>> {
    transpose("images N×C×H×W", nchw, values, |[_, c, h, w]| [c, h * w])
}

/// Transposes each item of the first axis, viewed as a matrix of the rows and columns that `view` gives for a shape.
fn transpose<T: Copy>(
    what: &str,
    shape: [usize; 4],
    values: &[T],
    view: fn([usize; 4]) -> [usize; 2],
) -> Result<Vec<T>> {
    let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    if count != Some(values.len()) {
        return Err(Error::Data(format!("{what}: shape {shape:?} does not hold {} values", values.len())));
    }
    if values.is_empty() {
        return Ok(Vec::new());
    }
    // No extent is zero here, so rows × columns divides the number of values.
    let [rows, columns] = view(shape);
    let mut out = Vec::with_capacity(values.len());
    for block in values.chunks_exact(rows * columns) {
        for column in 0..columns {
            out.extend(block.iter().skip(column).step_by(columns).copied());
        }
    }
    Ok(out)
}

impl Tensor {
    /// A tensor of K×R×S×C filters, stored as O×I×H×W.
    ///
    /// # Errors
    /// [`Error::Data`] when `values` do not fill `krsc`.
    pub fn filters(name: impl Into<String>, krsc: [usize; 4], values: &[f32]) -> Result<Self> {
        let [k, r, s, c] = krsc;
        Ok(Self::f32(name, [k, c, r, s], filters_to_disk(krsc, values)?))
    }

    /// A tensor of N×H×W×C images, stored as N×C×H×W.
    ///
    /// # Errors
    /// [`Error::Data`] when `values` do not fill `nhwc`.
    pub fn images(name: impl Into<String>, nhwc: [usize; 4], values: &[f32]) -> Result<Self> {
        let [n, h, w, c] = nhwc;
        Ok(Self::f32(name, [n, c, h, w], images_to_disk(nhwc, values)?))
    }
}

impl Container {
    /// The filters `name` in memory order, K×R×S×C.
    ///
    /// # Errors
    /// Those of [`Container::f32`], for the shape on disk, K×C×R×S.
    pub fn filters(&self, name: &str, krsc: [usize; 4]) -> Result<Vec<f32>> {
        let [k, r, s, c] = krsc;
        filters_to_memory([k, c, r, s], self.f32(name, &[k, c, r, s])?)
    }

    /// The images `name` in memory order, N×H×W×C.
    ///
    /// # Errors
    /// Those of [`Container::f32`], for the shape on disk, N×C×H×W.
    pub fn images(&self, name: &str, nhwc: [usize; 4]) -> Result<Vec<f32>> {
        let [n, h, w, c] = nhwc;
        images_to_memory([n, c, h, w], self.f32(name, &[n, c, h, w])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value encodes its own index: 1000 a + 100 b + 10 c + d.
    fn places([a, b, c, d]: [usize; 4], of: impl Fn(usize, usize, usize, usize) -> [usize; 4]) -> Vec<u32> {
        let mut out = Vec::new();
        for i in 0..a {
            for j in 0..b {
                for k in 0..c {
                    for l in 0..d {
                        out.push(of(i, j, k, l).iter().fold(0, |n, x| 10 * n + *x as u32));
                    }
                }
            }
        }
        out
    }

    #[test]
    fn every_value_lands_in_its_place() {
        // 3×3×3×3 has the same shape in both orders: only the values can tell.
        for [k, r, s, c] in [[3, 3, 3, 3], [4, 3, 2, 5], [1, 1, 1, 7], [6, 1, 1, 1], [2, 5, 3, 1]] {
            let memory = places([k, r, s, c], |k, r, s, c| [k, r, s, c]);
            let disk = places([k, c, r, s], |k, c, r, s| [k, r, s, c]);
            assert_eq!(filters_to_disk([k, r, s, c], &memory).unwrap(), disk);
            assert_eq!(filters_to_memory([k, c, r, s], &disk).unwrap(), memory);
            assert_eq!(images_to_disk([k, r, s, c], &memory).unwrap(), disk);
            assert_eq!(images_to_memory([k, c, r, s], &disk).unwrap(), memory);
        }
        let same = places([3, 3, 3, 3], |k, r, s, c| [k, r, s, c]);
        assert_ne!(filters_to_disk([3, 3, 3, 3], &same).unwrap(), same);
    }

    #[test]
    fn a_wrong_count_is_refused_and_empty_tensors_stay_empty() {
        let e = filters_to_disk([2, 3, 3, 3], &[0u8; 53]).unwrap_err().to_string();
        assert_eq!(e, "filters K×R×S×C: shape [2, 3, 3, 3] does not hold 53 values");
        assert!(images_to_memory([usize::MAX, 2, 2, 2], &[0u8; 8]).is_err());
        for shape in [[0, 8, 8, 3], [4, 8, 8, 0], [0, usize::MAX, usize::MAX, 3]] {
            assert!(images_to_disk::<u8>(shape, &[]).unwrap().is_empty());
        }
    }

    #[test]
    fn tensors_are_stored_in_the_published_order() {
        let krsc = [2, 3, 3, 3];
        let values: Vec<f32> = (0..54).map(|i| i as f32).collect();
        let c = Container::new([Tensor::filters("conv", krsc, &values).unwrap()]);
        assert_eq!(c.filters("conv", krsc).unwrap(), values);
        // Output 0, input 1, row 0, columns 0 to 2 in memory: 1, 4, 7.
        assert_eq!(c.f32("conv", &[2, 3, 3, 3]).unwrap()[9..12], [1.0, 4.0, 7.0]);
        let nhwc = [2, 4, 5, 3];
        let values: Vec<f32> = (0..120).map(|i| i as f32).collect();
        let c = Container::new([Tensor::images("buffer", nhwc, &values).unwrap()]);
        assert_eq!(c.images("buffer", nhwc).unwrap(), values);
        assert_eq!(c.f32("buffer", &[2, 3, 4, 5]).unwrap()[..3], [0.0, 3.0, 6.0]);
        assert!(c.images("buffer", [2, 3, 4, 5]).is_err());
    }
}
