//! Start samples: images that Langevin chains can start from without the training data, stored in the model file.
//!
//! The means are those of the classes, and the draws come from the class Gaussians N(μ_y, Σ_y) of the informative
//! initialisation (Yang & Ji, 2021).

use crate::error::Result;
use jempp_formats::container::{Container, Tensor};

/// Names of the tensors in the file: classes, means, draws.
pub(super) const NAMES: [&str; 3] = ["init.classes", "init.means", "init.draws"];

/// Images for chains to start from: draws of the informative initialisation, by class.
#[derive(Clone, Debug, PartialEq)]
pub struct StartSamples {
    /// Class means, classes×H×W×C.
    pub means: Vec<f32>,
    /// Draws, n×H×W×C, in class order.
    pub draws: Vec<f32>,
    /// Class of each draw, n.
    pub classes: Vec<i32>,
}

impl StartSamples {
    /// The tensors for a file, of images of `size` [H, W, C].
    ///
    /// # Errors
    /// [`crate::Error::Data`] when the values do not fill whole images.
    pub(crate) fn to_tensors(&self, [h, w, c]: [usize; 3]) -> Result<[Tensor; 3]> {
        let [classes, means, draws] = NAMES;
        Ok([
            Tensor::images(means, [self.means.len() / (h * w * c), h, w, c], &self.means)?,
            Tensor::images(draws, [self.classes.len(), h, w, c], &self.draws)?,
            Tensor::i32(classes, [self.classes.len()], self.classes.clone()),
        ])
    }

    /// Reads them from a model file, if it has any, for images of `size` [H, W, C] and this number of classes.
    ///
    /// # Errors
    /// [`crate::Error::Format`] when a tensor is missing, does not match the others, or names a class that the model
    /// lacks.
    pub(super) fn read(c: &Container, [h, w, ch]: [usize; 3], classes: usize) -> Result<Option<Self>> {
        let [labels, means, draws] = NAMES;
        let Some(stored) = c.get(labels) else { return Ok(None) };
        let n = stored.data.len();
        let known = c.tensor(means)?.shape.first().copied().unwrap_or(0);
        let samples = Self {
            means: c.images(means, [known, h, w, ch])?,
            draws: c.images(draws, [n, h, w, ch])?,
            classes: c.i32(labels, &[n])?.to_vec(),
        };
        if samples.classes.iter().any(|c| !(0..classes as i32).contains(c)) {
            return Err(c.wrong(format!("tensor `{labels}` names a class that the model lacks")).into());
        }
        Ok(Some(samples))
    }
}
