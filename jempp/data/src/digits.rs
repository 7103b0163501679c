//! The built-in handwritten digits; the crate's `README.md` gives their source and licence.
//!
//! Invariant: the split never changes, because test accuracies are compared across versions.

use crate::dataset::{Dataset, Split};
use crate::streams;
use engine::rng::Philox;
use flate2::read::GzDecoder;
use jempp_formats::{Error, Result};
use std::io::Read;

const FILE: &[u8] = include_bytes!("../../data/digits.csv.gz");
const IMAGES: usize = 1797;
const TEST: usize = 360;
const PIXELS: usize = 64;
/// Largest pixel value in the file.
const WHITE: u32 = 16;
/// Seed of the split: arbitrary, but part of its definition.
const SPLIT_SEED: u64 = 1797;

/// The 1,797 digits of 8×8×1 pixels in 10 classes, in the order of the file, and their fixed split: in a fixed random
/// order the first 1,437 for training and the last 360 for test; none for validation.
///
/// Pixel values p of 0–16 become round(255·p / 16).
///
/// # Errors
/// [`Error::Internal`] when the embedded file is damaged.
pub fn load() -> Result<(Dataset, Split)> {
    let mut text = String::new();
    GzDecoder::new(FILE).read_to_string(&mut text).map_err(|e| broken(&e.to_string()))?;
    let (images, labels) = parse(&text)?;
    let set = Dataset::new("digits", [8, 8, 1], 10, images, labels)?;
    Ok((set, split()))
}

fn parse(text: &str) -> Result<(Vec<u8>, Vec<u16>)> {
    let mut images = Vec::with_capacity(IMAGES * PIXELS);
    let mut labels = Vec::with_capacity(IMAGES);
    for line in text.lines() {
        let mut numbers = line.split(',').map(|f| f.parse::<u32>().map_err(|e| broken(&e.to_string())));
        for _ in 0..PIXELS {
            let p = numbers.next().ok_or_else(|| broken("a line is too short"))??;
            images.push(((p.min(WHITE) * 255 + WHITE / 2) / WHITE) as u8);
        }
        labels.push(numbers.next().ok_or_else(|| broken("a line has no label"))?? as u16);
    }
    if labels.len() == IMAGES { Ok((images, labels)) } else { Err(broken("lines are missing")) }
}

fn split() -> Split {
    let mut order: Vec<u32> = (0..IMAGES as u32).collect();
    Philox::new(SPLIT_SEED, streams::EVAL, 0).shuffle(&mut order);
    let test = order.split_off(IMAGES - TEST);
    Split { train: order, valid: Vec::new(), test }
}

fn broken(why: &str) -> Error {
    Error::Internal(format!("the embedded digits are broken: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_what_the_file_says() {
        let (set, _) = load().unwrap();
        assert_eq!((set.len(), set.size(), set.classes()), (1797, [8, 8, 1], 10));
        let mut counts = [0; 10];
        for l in set.labels() {
            counts[usize::from(*l)] += 1;
        }
        // The counts in scikit-learn's documentation of the same file.
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        // The first image is a zero: a ring around an empty centre.
        let zero = set.image(0).unwrap();
        assert_eq!(&zero[..8], [0, 0, 80, 207, 143, 16, 0, 0]);
        assert!(zero[2 * 8 + 2] > 200 && zero[4 * 8 + 3] == 0 && zero[4 * 8 + 5] > 100);
        // round(255·p/16) for all p, against floating point.
        let mut seen: Vec<u8> = set.images().to_vec();
        seen.sort_unstable();
        seen.dedup();
        let want: Vec<u8> = (0..=16).map(|p| (f64::from(p) * 255.0 / 16.0).round() as u8).collect();
        assert_eq!(seen, want);
    }

    #[test]
    fn split_is_fixed_and_has_every_class_in_both_parts() {
        let (set, split) = load().unwrap();
        assert_eq!((split.train.len(), split.valid.len(), split.test.len()), (1437, 0, 360));
        for part in [&split.train, &split.test] {
            let mut counts = [0usize; 10];
            for i in part {
                counts[usize::from(set.labels()[*i as usize])] += 1;
            }
            let fair = part.len() / 10;
            assert!(counts.iter().all(|c| *c > fair / 2 && *c < fair * 2), "{counts:?}");
        }
        let bytes: Vec<u8> = split.train.iter().chain(&split.test).flat_map(|i| i.to_le_bytes()).collect();
        assert_eq!(crc32c::crc32c(&bytes), 497_399_675, "the split has changed");
        let mut all = [split.train, split.test].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1797));
    }
}
