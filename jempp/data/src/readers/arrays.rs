//! Arrays of images and of labels in the types and orders that NumPy programs use, as bytes N×H×W×C and labels.
//!
//! Invariant: an array whose meaning is in doubt is refused with what the doubt is.

use jempp_formats::npz::{Element, Npz, Source};
use jempp_formats::place::Place;
use jempp_formats::{Error, Result};
use std::path::Path;

/// An open archive or array.
pub(super) type Open = Npz<Box<dyn Source>>;

/// Tolerance for floats that rounding has moved out of their range.
const SLACK: f32 = 1e-3;

/// Images of one size.
pub(super) struct Images {
    /// Height, width and channels.
    pub size: [usize; 3],
    /// N×H×W×C.
    pub bytes: Vec<u8>,
    /// How the values were understood, if they were not bytes.
    pub note: Option<&'static str>,
}

impl Images {
    pub(super) fn count(&self) -> usize {
        self.bytes.len() / self.size.iter().product::<usize>().max(1)
    }
}

/// The labels of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Labels {
    /// Numbers of classes.
    Integers(Vec<i64>),
    /// Names of classes.
    Names(Vec<String>),
    /// There are none.
    None(usize),
}

/// Reads an array of images: bytes, booleans (0 and 255), whole numbers to 255, or floats in [0, 1], in [−1, 1] or whole
/// numbers to 255; N×H×W, N×H×W×C, N×C×H×W where only one of the axes can be that of channels, or N×P, the pixels of square grey
/// images or the planes of square images of three channels.
///
/// # Errors
/// [`Error::Data`] when type, shape or a value does not fit; those of [`Npz`].
pub(super) fn images(npz: &mut Open, path: &Path, name: &str) -> Result<Images> {
    let place = Place::file(path).member(name);
    let about = npz.describe(name)?;
    let (bytes, note) = match about.element {
        Element::Byte => (npz.u8(name)?.1, None),
        Element::Bool | Element::Integer => whole(&place, npz.i64(name)?.1, about.element)?,
        Element::Float => floats(&place, npz.f32(name)?.1)?,
        Element::Text | Element::Other => {
            return Err(place.unfit(format!("its type is {}, but images are numbers", about.descr)));
        }
    };
    let (size, bytes) = arrange(&place, &about.shape, bytes)?;
    if bytes.is_empty() {
        return Err(place.unfit(format!("its shape {:?} contains no image", about.shape)));
    }
    Ok(Images { size, bytes, note })
}

fn whole(place: &Place, values: Vec<i64>, element: Element) -> Result<(Vec<u8>, Option<&'static str>)> {
    if element == Element::Bool {
        return Ok((values.into_iter().map(|v| if v == 0 { 0 } else { 255 }).collect(), Some("booleans")));
    }
    let byte =
        |v: i64| u8::try_from(v).map_err(|_| place.unfit(format!("the value {v} is no byte: 0 to 255")));
    Ok((values.into_iter().map(byte).collect::<Result<_, Error>>()?, None))
}

/// Floats as bytes. Which of the usual ranges is meant shows in their least and greatest values.
fn floats(place: &Place, values: Vec<f32>) -> Result<(Vec<u8>, Option<&'static str>)> {
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    for v in &values {
        if !v.is_finite() {
            return Err(place.unfit(format!("a value is {v}")));
        }
        (low, high) = (low.min(*v), high.max(*v));
    }
    let (scale, shift, note) = if low < -SLACK {
        (127.5, 1.0, "floats in [-1, 1]")
    } else if high <= 1.0 + SLACK {
        (255.0, 0.0, "floats in [0, 1]")
    } else {
        (1.0, 0.0, "floats in [0, 255]")
    };
    let fits = match note {
        "floats in [-1, 1]" => low >= -1.0 - SLACK && high <= 1.0 + SLACK,
        "floats in [0, 255]" => high <= 255.0 && values.iter().all(|v| v.fract() == 0.0),
        _ => true,
    };
    if !fits {
        return Err(place.unfit(format!(
            "its floats are from {low} to {high}: pixels are in [0, 1], in [-1, 1] or whole numbers from 0 to 255; store them \
             as uint8"
        )));
    }
    Ok((
        values.into_iter().map(|v| ((v + shift) * scale).round().clamp(0.0, 255.0) as u8).collect(),
        Some(note),
    ))
}

/// The size of images and their bytes with channels last.
fn arrange(place: &Place, shape: &[usize], bytes: Vec<u8>) -> Result<([usize; 3], Vec<u8>)> {
    let channels = |c: usize| c == 1 || c == 3;
    let root = |p: usize| (0..=1 << 12).find(|s| s * s == p);
    match *shape {
        [_, h, w] => Ok(([h, w, 1], bytes)),
        [_, c, h, w] if channels(c) && channels(w) => Err(place.unfit(format!(
            "its shape {shape:?} leaves open whether the second or the last axis is that of channels ({c}×{h}×{w})"
        ))),
        [_, h, w, c] if channels(c) => Ok(([h, w, c], bytes)),
        [_, c, h, w] if channels(c) => Ok(([h, w, c], interleaved(&bytes, [c, h * w]))),
        [_, p] if root(p).is_some() => Ok(([root(p).unwrap_or(0), root(p).unwrap_or(0), 1], bytes)),
        [_, p] if p.is_multiple_of(3) && root(p / 3).is_some() => {
            let side = root(p / 3).unwrap_or(0);
            Ok(([side, side, 3], interleaved(&bytes, [3, p / 3])))
        }
        _ => Err(place.unfit(format!(
            "its shape is {shape:?}, but must be N×H×W or N×H×W×C with C 1 or 3, or N×C×H×W"
        ))),
    }
}

/// Images of `c` planes of `n` values as ones of `n` pixels of `c` channels.
fn interleaved(bytes: &[u8], [c, n]: [usize; 2]) -> Vec<u8> {
    let mut out = vec![0; bytes.len()];
    for (image, out) in bytes.chunks_exact((c * n).max(1)).zip(out.chunks_exact_mut((c * n).max(1))) {
        for (k, v) in image.iter().enumerate() {
            out[k % n * c + k / n] = *v;
        }
    }
    out
}

/// Reads the labels of `n` images: whole numbers of any type, booleans, strings, N or N×1, or one-hot rows N×K.
///
/// # Errors
/// [`Error::Data`] when type, shape or a value does not fit; those of [`Npz`].
pub(super) fn labels(npz: &mut Open, path: &Path, name: &str, n: usize) -> Result<Labels> {
    let place = Place::file(path).member(name);
    let about = npz.describe(name)?;
    let shape = about.shape.as_slice();
    let column = shape == [n] || shape == [n, 1];
    if !column && !matches!(*shape, [m, k] if m == n && k > 1) {
        return Err(place.unfit(format!("its shape is {shape:?}, but there are {n} images")));
    }
    let values: Vec<i64> = match about.element {
        Element::Text if column => return Ok(Labels::Names(npz.texts(name)?.1)),
        Element::Bool | Element::Byte | Element::Integer => npz.i64(name)?.1,
        Element::Float => {
            let values = npz.f64(name)?.1;
            if let Some(v) = values.iter().find(|v| v.fract() != 0.0 || v.abs() > 1e15) {
                let why =
                    format!("the value {v} is no class: labels are whole numbers, strings or one-hot rows");
                return Err(place.unfit(why));
            }
            values.into_iter().map(|v| v as i64).collect()
        }
        Element::Text | Element::Other => {
            return Err(place.unfit(format!(
                "its type is {}, of shape {shape:?}, but labels are whole numbers, strings or one-hot rows",
                about.descr
            )));
        }
    };
    if column {
        return Ok(Labels::Integers(values));
    }
    let hot = |(i, row): (usize, &[i64])| {
        let at = row.iter().position(|v| *v == 1);
        let rest = row.iter().filter(|v| **v != 0).count();
        at.filter(|_| rest == 1).map(|k| k as i64).ok_or_else(|| {
            place.unfit(format!("row {i} is not one-hot: an image must have exactly one class"))
        })
    };
    let rows = values.chunks_exact(shape[1]).enumerate();
    Ok(Labels::Integers(rows.map(hot).collect::<Result<_, Error>>()?))
}
