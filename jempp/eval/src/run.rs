//! The evaluations of a model on its data, each by one call.

use super::attack::{Attack, Curve, Subjects, curve};
use super::cache::Cache;
use super::calibration::{Calibration, calibration};
use super::ood::{Detection, Other, detection};
use super::scores::{Scored, score};
use super::{Protocol, Watcher, random};
use engine::rng::Philox;
use jempp::evaluation::{Part, Subject};
use jempp::model::Model;
use jempp::streams;
use jempp::{Error, Result};
use jempp_data::synthetic::{Images, Kind, SYNTHETIC};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// A model, the data that it is judged on, and how.
#[derive(Debug)]
pub struct Judge<'a> {
    model: &'a Model,
    subject: &'a Subject,
    part: Part,
    indices: Vec<u32>,
    noise: f64,
    protocol: Protocol,
    cache: Cache,
}

impl<'a> Judge<'a> {
    /// A judge of `n` images of a part, drawn by the seed (all without), with normal noise of standard deviation `noise`
    /// added, in units of [−1, 1]. Finished parts are kept in `folder`, if there is one.
    ///
    /// # Errors
    /// [`Error::Data`] when the part has no image; [`Error::Config`] for a noise that is none; [`Error::Io`].
    pub fn new(
        model: &'a Model,
        subject: &'a Subject,
        part: Part,
        (n, noise): (Option<usize>, f64),
        folder: Option<&Path>,
    ) -> Result<Self> {
        if !(noise.is_finite() && noise >= 0.0) {
            return Err(Error::Config(format!("noise of {noise}: must be 0 or above")));
        }
        let mut indices = subject.part(part)?.to_vec();
        if let Some(n) = n.filter(|n| *n < indices.len()) {
            // Parts of folders are sorted by class, so their first images would not do.
            Philox::new(subject.seed, streams::EVAL, random::SUBSET).shuffle(&mut indices);
            indices.truncate(n);
        }
        if indices.is_empty() {
            return Err(Error::Config("no image is nothing to judge".into()));
        }
        let protocol = Protocol::new(model, subject, part, indices.len(), noise)?;
        let stamp = serde_json::to_string(&protocol).map_err(|e| Error::Internal(e.to_string()))?;
        let cache = folder.map_or_else(|| Ok(Cache::none()), |f| Cache::at(f, stamp))?;
        Ok(Self { model, subject, part, indices, noise, protocol, cache })
    }

    /// What numbers are measured on.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// What `make` gives, kept as the part `name`.
    ///
    /// # Errors
    /// Those of [`Cache::part`].
    pub fn part<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.cache.part(name, make)
    }

    fn images(&self, indices: &[u32], kind: Kind) -> Result<Images<'a>> {
        Ok(Images::new(&self.subject.set, indices, kind, self.protocol.seed, self.noise as f32)?)
    }

    /// The scores of the images.
    ///
    /// # Errors
    /// Those of [`score`].
    pub fn scores(&self, gradient: bool, watch: &mut Watcher<'_>) -> Result<Scored> {
        let images = self.images(&self.indices, Kind::Plain)?;
        score(self.model, &images, self.part.name(), gradient, &self.cache, watch)
    }

    /// Calibration; the temperature is fitted on the validation images, unless they are what is judged.
    ///
    /// # Errors
    /// Those of [`score`] and [`calibration`].
    pub fn calibration(&self, scores: &Scored, bins: usize, watch: &mut Watcher<'_>) -> Result<Calibration> {
        let valid = &self.subject.split.valid;
        let fit = if self.part == Part::Valid || valid.is_empty() {
            None
        } else {
            let scores =
                score(self.model, &self.images(valid, Kind::Plain)?, "valid", false, &self.cache, watch)?;
            Some((scores.logits, self.subject.labels(valid)?))
        };
        let labels = self.subject.labels(&self.indices)?;
        let classes = self.model.network().config.classes;
        calibration(
            self.protocol.clone(),
            (&scores.logits, &labels),
            fit.as_ref().map(|(l, y)| (l.as_slice(), y.as_slice())),
            (classes, bins),
        )
    }

    /// Detection of the synthetic sets and of the test images of other data sets.
    ///
    /// # Errors
    /// Those of [`detection`]; [`Error::Data`] for a data set without test images.
    pub fn detection(
        &self,
        scores: &Scored,
        others: &[(String, Subject)],
        watch: &mut Watcher<'_>,
    ) -> Result<Detection> {
        let mut sets = Vec::new();
        for (name, subject) in others {
            let (seed, noise) = (self.protocol.seed, self.noise as f32);
            let images = Images::new(&subject.set, subject.part(Part::Test)?, Kind::Plain, seed, noise)?;
            let crc32c = Some(format!("{:08x}", subject.set.crc32c()));
            sets.push(Other { name: name.clone(), images, crc32c });
        }
        for kind in SYNTHETIC {
            if kind != Kind::Interpolated || self.indices.len() > 1 {
                let images = self.images(&self.indices, kind)?;
                sets.push(Other { name: kind.name().to_owned(), images, crc32c: None });
            }
        }
        detection(self.model, self.protocol.clone(), scores, &sets, &self.cache, watch)
    }

    /// Accuracy under attack; on clean images only.
    ///
    /// # Errors
    /// Those of [`curve`]; [`Error::Config`] with noise.
    pub fn attack(&self, attack: &Attack<'_>, watch: &mut Watcher<'_>) -> Result<Curve> {
        if self.noise > 0.0 {
            return Err(Error::Config("attacks start from the images themselves, without noise".into()));
        }
        let subjects = Subjects { set: &self.subject.set, indices: &self.indices };
        curve(self.model, subjects, attack, self.protocol.clone(), &self.cache, watch)
    }
}
