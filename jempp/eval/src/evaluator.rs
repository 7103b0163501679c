//! A model and the images to evaluate it on, with one method per evaluation.

use crate::attack::{Attack, RobustnessCurve, robustness_curve};
use crate::cache::Cache;
use crate::calibration::{Calibration, calibration};
use crate::ood::{OodDetection, OodSet, detect};
use crate::progress::ProgressFn;
use crate::protocol::Protocol;
use crate::scores::{SetScores, score_images};
use crate::subset::random_subset;
use jempp::evaluation::{EvalData, SplitPart};
use jempp::model::thresholds::Abstention;
use jempp::model::{Model, Scores};
use jempp::{Error, Result};
use jempp_data::synthetic::{EvalImages, ImageKind};
use std::path::Path;

/// A model, the images to evaluate it on, and where finished parts are kept.
#[derive(Debug)]
pub struct Evaluator<'a> {
    model: &'a Model,
    data: &'a EvalData,
    part: SplitPart,
    indices: Vec<u32>,
    /// The number of images that was asked for; `None` for all.
    n: Option<usize>,
    noise: f64,
    protocol: Protocol,
    cache: Cache,
}

impl<'a> Evaluator<'a> {
    /// An evaluator on `n` images of a part of the data set, drawn at random, or on all of them; with Gaussian noise of
    /// standard deviation `noise` added (pixels are in [−1, 1]). Finished parts are kept in `folder`, if one is given.
    ///
    /// # Errors
    /// [`Error::Data`] if the part has no images; [`Error::Config`] for 0 images or a noise level that is negative or not
    /// finite; [`Error::Io`].
    pub fn new(
        model: &'a Model,
        data: &'a EvalData,
        part: SplitPart,
        (n, noise): (Option<usize>, f64),
        folder: Option<&Path>,
    ) -> Result<Self> {
        if !(noise.is_finite() && noise >= 0.0) {
            return Err(Error::Config(format!("noise of {noise}: must be 0 or above")));
        }
        let indices = random_subset(data.part(part)?, n, data.seed);
        if indices.is_empty() {
            return Err(Error::Config("0 images: there must be at least 1 to evaluate".into()));
        }
        let protocol = Protocol::new(model, data, part, indices.len(), noise)?;
        let stamp = serde_json::to_string(&protocol).map_err(|e| Error::Internal(e.to_string()))?;
        let cache = folder.map_or_else(|| Ok(Cache::none()), |f| Cache::at(f, stamp))?;
        Ok(Self { model, data, part, indices, n, noise, protocol, cache })
    }

    /// The conditions of all measurements.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// Where finished parts are kept.
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    fn images(&self, indices: &[u32], kind: ImageKind) -> Result<EvalImages<'a>> {
        Ok(EvalImages::new(&self.data.set, indices, kind, self.protocol.seed, self.noise as f32)?)
    }

    /// Scores the images, with the norm of the input gradient if `gradient` is true.
    ///
    /// # Errors
    /// Those of the model and of loading the images; [`Error::Cancelled`].
    pub fn scores(&self, gradient: bool, progress: &mut ProgressFn<'_>) -> Result<SetScores> {
        let images = self.images(&self.indices, ImageKind::Plain)?;
        score_images(self.model, &images, self.part.name(), gradient, &self.cache, progress)
    }

    /// Accuracy and calibration over `bins` bins, from [`Evaluator::scores`]. The temperature is fitted on the validation
    /// images, unless they are the ones evaluated.
    ///
    /// # Errors
    /// Those of the model and of loading the images; [`Error::Cancelled`]; [`Error::Data`] if a logit is not finite or
    /// `bins` is 0.
    pub fn calibration(
        &self,
        scores: &SetScores,
        bins: usize,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Calibration> {
        let fit = match self.part {
            SplitPart::Valid => None,
            _ => self.validation(progress)?,
        };
        let labels = self.data.labels(&self.indices)?;
        let classes = self.model.network().config.classes;
        calibration(
            self.protocol.clone(),
            (&scores.scores.logits, &labels),
            fit.as_ref().map(|(s, y)| (s.logits.as_slice(), y.as_slice())),
            (classes, bins),
        )
    }

    /// Scores and labels of the validation images, if there are any.
    fn validation(&self, progress: &mut ProgressFn<'_>) -> Result<Option<(Scores, Vec<u16>)>> {
        let valid = &self.data.split.valid;
        if valid.is_empty() {
            return Ok(None);
        }
        let images = self.images(valid, ImageKind::Plain)?;
        let scored = score_images(self.model, &images, "valid", false, &self.cache, progress)?;
        Ok(Some((scored.scores, self.data.labels(valid)?)))
    }

    /// What abstaining costs and gains over α, from [`Evaluator::scores`]; empty if there are too few validation images.
    ///
    /// # Errors
    /// Those of the model and of loading the images; [`Error::Cancelled`].
    pub fn abstention(&self, scores: &SetScores, progress: &mut ProgressFn<'_>) -> Result<Vec<Abstention>> {
        let Some((valid, labels)) = self.validation(progress)? else { return Ok(Vec::new()) };
        let own = self.data.labels(&self.indices)?;
        let classes = self.model.network().config.classes;
        Abstention::curve((&valid, &labels), (&scores.scores, &own), classes)
    }

    /// Out-of-distribution detection, from [`Evaluator::scores`]: of the test images of other data sets, given by name, at most as
    /// many as were asked for, and of the synthetic sets.
    ///
    /// # Errors
    /// Those of the model and of loading the images; [`Error::Cancelled`]; [`Error::Data`] for a data set without test
    /// images, or if a score is NaN.
    pub fn detection(
        &self,
        scores: &SetScores,
        others: &[(String, EvalData)],
        progress: &mut ProgressFn<'_>,
    ) -> Result<OodDetection> {
        let mut sets = Vec::new();
        for (name, data) in others {
            let (seed, noise) = (self.protocol.seed, self.noise as f32);
            let test = data.part(SplitPart::Test)?;
            let test = random_subset(test, self.n, data.seed);
            let images = EvalImages::new(&data.set, &test, ImageKind::Plain, seed, noise)?;
            let crc32c = Some(format!("{:08x}", data.set.crc32c()));
            sets.push(OodSet { name: name.clone(), images, crc32c });
        }
        for kind in ImageKind::SYNTHETIC {
            // A single image has no other to be averaged with.
            if kind != ImageKind::Interpolated || self.indices.len() > 1 {
                let images = self.images(&self.indices, kind)?;
                sets.push(OodSet { name: kind.name().to_owned(), images, crc32c: None });
            }
        }
        detect(self.model, self.protocol.clone(), scores, &sets, &self.cache, progress)
    }

    /// Accuracy under attack. The images must be evaluated without added noise.
    ///
    /// # Errors
    /// [`Error::Config`] with added noise or a plan out of range; [`Error::Data`] if the surrogate model does not fit; those
    /// of the models; [`Error::Cancelled`].
    pub fn attack(&self, attack: &Attack<'_>, progress: &mut ProgressFn<'_>) -> Result<RobustnessCurve> {
        if self.noise > 0.0 {
            return Err(Error::Config("attacks start from the images without added noise".into()));
        }
        let images = (&self.data.set, self.indices.as_slice());
        robustness_curve(self.model, images, attack, self.protocol.clone(), &self.cache, progress)
    }
}
