//! Arrays of images as inputs of a model.

use super::{Element, Npz, float};
use crate::error::{Error, Result};
use crate::pixels::value;
use std::io::{Read, Seek};
use std::path::Path;

/// Tolerance for values that rounding has moved out of a range.
const SLACK: f32 = 1e-3;
/// Names of an array of images, the first that exists: ours, those of Keras, MedMNIST and samples of other programs.
const NAMES: [&str; 12] = [
    "images",
    "test_images",
    "x_test",
    "train_images",
    "x_train",
    "samples",
    "x",
    "X",
    "data",
    "imgs",
    "image",
    super::SINGLE,
];

/// What floating-point pixels range over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Float {
    /// −1 to 1.
    #[default]
    Signed,
    /// 0 to 1.
    Unit,
    /// 0 to 255.
    Byte,
}

impl Float {
    /// Lowest and highest value.
    pub fn bounds(self) -> [f32; 2] {
        match self {
            Self::Signed => [-1.0, 1.0],
            Self::Unit => [0.0, 1.0],
            Self::Byte => [0.0, 255.0],
        }
    }

    /// The input of a network, in [−1, 1].
    fn input(self, v: f32) -> f32 {
        match self {
            Self::Signed => v,
            Self::Unit => (v - 0.5) / 0.5,
            Self::Byte => (v / 255.0 - 0.5) / 0.5,
        }
    }
}

/// Images with optional labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// N×H×W×C values in [−1, 1].
    pub values: Vec<f32>,
    /// Height, width and channels.
    pub size: [usize; 3],
    /// A reason to doubt that the values range over what was assumed.
    pub warning: Option<String>,
}

impl Images {
    /// Number of images.
    pub fn count(&self) -> usize {
        self.values.len() / self.size.iter().product::<usize>().max(1)
    }
}

/// Reads the images in the archive or array at `path`; floats range over `range`, or −1 to 1 if none is given.
///
/// Images are N×H×W×C, or N×H×W if they are grey: float16, 32 or 64, which become float32 in [−1, 1], or uint8, which becomes
/// (u/255 − ½)/½. Other members, such as labels, are not read.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] when the file is not an archive or damaged; [`Error::Data`] when there are no images or they
/// have the wrong type or shape, or a value is NaN or more than 10⁻³ of the range outside of it.
pub fn read_images(path: &Path, range: Option<Float>) -> Result<Images> {
    images(Npz::open(path)?, range)
}

/// Reads the images of an open archive, as [`read_images`] does.
///
/// # Errors
/// Those of [`read_images`].
pub fn images<R: Read + Seek>(mut npz: Npz<R>, range: Option<Float>) -> Result<Images> {
    let Some(name) = NAMES.into_iter().find(|n| npz.has(n)) else {
        // The error that lists what there is.
        return Err(npz.member(NAMES[0]).err().unwrap_or_else(|| Error::Internal("no images".into())));
    };
    let bytes = npz.describe(name)?.element == Element::Byte;
    let (shape, mut values) = npz.read(name, "float16, float32, float64 or uint8", |d| match d.scalar {
        super::Scalar::U8 => Some(|b, _| value(b[0])),
        _ => float(d),
    })?;
    let [n, h, w, c] = match *shape.as_slice() {
        [n, h, w] => [n, h, w, 1],
        [n, h, w, c] => [n, h, w, c],
        _ => {
            let why = format!("its shape is {shape:?}, but must be N×H×W×C, or N×H×W for grey images");
            return Err(npz.wrong(name, why));
        }
    };
    if values.is_empty() || n == 0 {
        return Err(npz.wrong(name, format!("its shape {shape:?} contains no image")));
    }
    let size = [h, w, c];
    if bytes {
        return Ok(Images { values, size, warning: None });
    }
    let over = range.unwrap_or_default();
    let [low, high] = over.bounds();
    let slack = SLACK * (high - low) / 2.0;
    let outside = |v: &f32| v.is_nan() || *v < low - slack || *v > high + slack;
    if let Some(i) = values.iter().position(outside) {
        let at = [i / (h * w * c), i / (w * c) % h, i / c % w, i % c];
        let why = format!(
            "the value at {at:?} is {}; floats must lie in [{low}, {high}]; for another range say --range 0,1 or 0,255; bytes \
             must be uint8",
            values[i]
        );
        return Err(npz.wrong(name, why));
    }
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let warning = (range.is_none() && least >= 0.0).then(|| {
        format!(
            "{}: no value of `{name}` is below 0: floats are taken to range from -1 to 1; if they are from 0 to 1, say \
             --range 0,1",
            npz.path.display()
        )
    });
    values.iter_mut().for_each(|v| *v = over.input(*v));
    Ok(Images { values, size, warning })
}
