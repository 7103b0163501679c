//! What a model computes for images: logits, unnormalised log density, input gradients.
//!
//! Invariant: an image's results do not depend on the batch around it: images run in chunks of planned sizes, and batch
//! norm uses the frozen statistics.

use super::Model;
use super::pool::{Program, Want};
use crate::error::{Error, Result};
use crate::network::{BnMode, Objective};
use engine::ops::reduce::SumAll;
use engine::{HostTensor, Spec, Tape, grad};
use serde::{Deserialize, Serialize};

/// Batch sizes of programs, largest first: n images run in as many chunks of the first as fit, then of the next.
const CHUNKS: [usize; 3] = [64, 8, 1];

/// Logits and log densities of n images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// n×classes.
    pub logits: Vec<f32>,
    /// n: unnormalised log p(x), the logsumexp of the logits or the output of the energy head.
    pub log_density: Vec<f32>,
}

impl Scores {
    /// Appends the scores of further images.
    pub fn append(&mut self, more: Self) {
        self.logits.extend(more.logits);
        self.log_density.extend(more.log_density);
    }
}

impl Model {
    /// Logits and log densities of images N×H×W×C in [−1, 1].
    ///
    /// ```
    /// use jempp::{Config, Device, Trainer};
    ///
    /// # fn main() -> jempp::Result<()> {
    /// # let changes = ["train.schedule=constant", "sampler.init=uniform"].map(String::from);
    /// # let config = Config::from_sources("digits", None, &changes)?;
    /// # let model = Trainer::new(&config, &Device::cpu(0))?.model()?;
    /// let images = vec![0.1; 3 * 8 * 8]; // of a model for 8×8×1 images and 10 classes
    /// let scores = model.scores(&images)?;
    /// assert_eq!((scores.logits.len(), scores.log_density.len()), (3 * 10, 3));
    ///
    /// // Without an energy head, log p(x) + const is the logsumexp of the logits.
    /// let sum: f32 = scores.logits[..10].iter().map(|l| l.exp()).sum();
    /// assert!((sum.ln() - scores.log_density[0]).abs() < 1e-4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Data`] if the length is not a multiple of an image's, or a value is not finite.
    pub fn scores(&self, images: &[f32]) -> Result<Scores> {
        self.scores_with(images, &mut |_, _| true)
    }

    /// The results of [`Model::scores`]. `progress` receives the images done and the images in total, before and after each
    /// chunk; when it returns false, the work ends.
    ///
    /// # Errors
    /// Those of [`Model::scores`]; [`Error::Cancelled`].
    pub fn scores_with(
        &self,
        images: &[f32],
        progress: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Scores> {
        let n = self.check(images)?;
        let mut report = |done| if progress(done, n) { Ok(()) } else { Err(Error::Cancelled) };
        report(0)?;
        let classes = self.network.config.classes;
        let mut out = Scores { logits: Vec::with_capacity(n * classes), log_density: Vec::with_capacity(n) };
        self.chunks(n, Want::Scores, &mut |p, range| {
            let px = self.network.pixels();
            p.plan.run_shared(
                &self.state,
                &[(p.x, HostTensor::F32(&images[range.start * px..range.end * px]))],
            )?;
            out.logits.extend(p.plan.fetch::<f32>(p.outputs[0])?);
            out.log_density.extend(p.plan.fetch::<f32>(p.outputs[1])?);
            report(range.end)
        })?;
        Ok(out)
    }

    /// Features of images N×H×W×C in [−1, 1], n×[`feature_count`](crate::network::Network::feature_count): what the class
    /// head is a linear function of.
    ///
    /// # Errors
    /// Those of [`Model::scores`].
    pub fn features(&self, images: &[f32]) -> Result<Vec<f32>> {
        let n = self.check(images)?;
        let px = self.network.pixels();
        let mut out = Vec::with_capacity(n * self.network.feature_count());
        self.chunks(n, Want::Features, &mut |p, range| {
            let images = &images[range.start * px..range.end * px];
            p.plan.run_shared(&self.state, &[(p.x, HostTensor::F32(images))])?;
            out.extend(p.plan.fetch::<f32>(p.outputs[0])?);
            Ok(())
        })?;
        Ok(out)
    }

    /// Logits, n×classes.
    ///
    /// # Errors
    /// Those of [`Model::scores`].
    pub fn logits(&self, images: &[f32]) -> Result<Vec<f32>> {
        Ok(self.scores(images)?.logits)
    }

    /// Unnormalised log p(x), n values.
    ///
    /// # Errors
    /// Those of [`Model::scores`].
    pub fn log_density(&self, images: &[f32]) -> Result<Vec<f32>> {
        Ok(self.scores(images)?.log_density)
    }

    /// The gradient ∂log p(x)/∂x, or with labels ∂log p(x, y)/∂x, N×H×W×C. Unnormalised log p(x, y) is the label's
    /// logit f(x)\[y\], or for a model with an energy head log p(x) + log p(y|x).
    ///
    /// ```
    /// use jempp::{Config, Device, Trainer};
    ///
    /// # fn main() -> jempp::Result<()> {
    /// // An untrained network suffices for the example.
    /// let changes = ["train.schedule=constant", "sampler.init=uniform"].map(String::from);
    /// let config = Config::from_sources("digits", None, &changes)?;
    /// let model = Trainer::new(&config, &Device::cpu(0))?.model()?;
    ///
    /// let mut image = vec![0.1; 8 * 8];
    /// let before = model.log_density(&image)?[0];
    /// let gradient = model.input_grad(&image, None)?;
    /// image.iter_mut().zip(&gradient).for_each(|(x, g)| *x += 0.01 * g);
    /// assert!(model.log_density(&image)?[0] > before); // a small step uphill
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Model::scores`]; [`Error::Data`] when there is not one label per image, or a label is out of range.
    pub fn input_grad(&self, images: &[f32], labels: Option<&[i32]>) -> Result<Vec<f32>> {
        let n = self.check(images)?;
        if let Some(l) = labels {
            let classes = self.network.config.classes as i32;
            if l.len() != n || l.iter().any(|l| !(0..classes).contains(l)) {
                return Err(Error::Data(format!("needs {n} labels below {classes}")));
            }
        }
        let mut out = Vec::with_capacity(images.len());
        let want = if labels.is_some() { Want::GradLabel } else { Want::GradDensity };
        self.chunks(n, want, &mut |p, range| {
            let px = self.network.pixels();
            let mut inputs = vec![(p.x, HostTensor::F32(&images[range.start * px..range.end * px]))];
            if let (Some(v), Some(l)) = (p.labels, labels) {
                inputs.push((v, HostTensor::I32(&l[range])));
            }
            p.plan.run_shared(&self.state, &inputs)?;
            out.extend(p.plan.fetch::<f32>(p.outputs[0])?);
            Ok(())
        })?;
        Ok(out)
    }

    /// The number of images, if their length and values are valid.
    pub(super) fn check(&self, images: &[f32]) -> Result<usize> {
        let px = self.network.pixels();
        let size = self.network.config.image_size;
        if !images.len().is_multiple_of(px) {
            let got = images.len();
            return Err(Error::Data(format!("{got} values are not a whole number of images of {size:?}")));
        }
        match images.iter().position(|v| !v.is_finite()) {
            Some(i) => Err(Error::Data(format!("image {} holds {} at value {}", i / px, images[i], i % px))),
            None => Ok(images.len() / px),
        }
    }

    /// Splits `n` images into chunks and calls `f` with each chunk's program and range of images.
    pub(super) fn chunks(
        &self,
        n: usize,
        want: Want,
        f: &mut dyn FnMut(&mut Program, core::ops::Range<usize>) -> Result<()>,
    ) -> Result<()> {
        let mut guard = self.pool.borrow();
        let returned = || Error::Internal("programs were returned to the pool too early".into());
        let programs = guard.programs().ok_or_else(returned)?;
        let mut at = 0;
        while at < n {
            let size = CHUNKS.into_iter().find(|c| *c <= n - at).unwrap_or(1);
            let program = match programs.entry((size, want)) {
                std::collections::btree_map::Entry::Occupied(e) => e.into_mut(),
                std::collections::btree_map::Entry::Vacant(e) => e.insert(self.record(size, want)?),
            };
            f(program, at..at + size)?;
            at += size;
        }
        Ok(())
    }

    fn record(&self, n: usize, want: Want) -> Result<Program> {
        if matches!(want, Want::GradLoss | Want::GradCotangent) {
            return self.record_loss(n, want);
        }
        let mut tape = Tape::new();
        let x = tape.input("images", self.network.images(n));
        let f = self.network.forward(&mut tape, x, &BnMode::Running)?;
        if want == Want::Features {
            let outputs = vec![f.features];
            return Ok(Program { plan: tape.plan(&self.device, &outputs)?, x, labels: None, outputs });
        }
        let labels = (want == Want::GradLabel).then(|| tape.input("labels", Spec::i32(&[n])));
        let objective = labels.map_or(Objective::LogDensity, Objective::Label).record(&mut tape, f.heads)?;
        let outputs = if want == Want::Scores {
            vec![f.heads.logits, objective]
        } else {
            let total = tape.one(SumAll { factor: 1.0 }, &[objective])?;
            let gradient = grad(&mut tape, total, &[x])?[0];
            vec![gradient, f.heads.logits, objective]
        };
        Ok(Program { plan: tape.plan(&self.device, &outputs)?, x, labels, outputs })
    }
}
