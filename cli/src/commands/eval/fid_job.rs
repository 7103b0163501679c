//! FID and Inception score of a model's samples, without printing and without command-line types. Moves to `jempp-eval`.

use crate::commands::sample_job::{ChainStart, SamplerOverrides};
use jempp::model::Model;
use jempp::sampling::draw::SampleOptions;
use jempp::{Error, Result};
use jempp_eval::fid::{Against, Eye, Fid, Judged, fid};
use jempp_eval::inception::{Inception, Resize, Variant};
use std::path::Path;

/// Where the evaluated images come from.
#[derive(Clone, Copy, Debug)]
pub enum SampleSource<'a> {
    /// Langevin chains of the model: how many, where they start, and their steps (`None`: as in training).
    Chains(usize, ChainStart, Option<u32>),
    /// The `images` of a NumPy archive.
    Archive(&'a Path),
}

/// The network that gives the features, and how images are prepared for it.
#[derive(Clone, Copy, Debug)]
pub struct FeatureExtractor<'a> {
    /// File of InceptionV3 weights.
    pub weights: &'a Path,
    /// Origin of the weights; `None` to tell it from the number of classes.
    pub variant: Option<Variant>,
    /// How images become 299×299 pixels.
    pub resize: Resize,
}

/// What to evaluate and what to compare it with.
#[derive(Clone, Debug)]
pub struct FidJob<'a> {
    /// The model, and the path it was loaded from.
    pub model: (&'a Model, &'a Path),
    /// The images to evaluate.
    pub source: SampleSource<'a>,
    /// The images or statistics that they are compared with.
    pub reference: Against<'a>,
    /// What gives the features.
    pub extractor: FeatureExtractor<'a>,
    /// Seed of the chains and of drawn reference images; `None` for that of the model's training.
    pub seed: Option<u64>,
    /// Folder for finished parts and for the reference statistics.
    pub folder: Option<&'a Path>,
}

impl FidJob<'_> {
    /// Draws or reads the images and scores them. `progress` is told the stage, steps done and steps in total.
    ///
    /// # Errors
    /// [`Error::Config`] for fewer than two chains, whose covariance is undefined; those of [`fid`].
    pub fn run(&self, progress: &mut dyn FnMut(&str, usize, usize) -> bool) -> Result<Fid> {
        let (model, _) = self.model;
        if let SampleSource::Chains(n @ (0 | 1), ..) = self.source {
            return Err(Error::Config(format!(
                "{n} samples have no covariance; take at least 2, better 10000"
            )));
        }
        let FeatureExtractor { weights, variant, resize } = self.extractor;
        let mut inception = Inception::open(model.device(), weights, variant)?;
        let config = SamplerOverrides { seed: self.seed, ..SamplerOverrides::default() }.config(model)?;
        let mut extractor = Eye { inception: &mut inception, resize };
        let mut score = |images: &Judged<'_>| {
            fid(model, (images, self.reference), config.seed, &mut extractor, self.folder, progress)
        };
        match self.source {
            SampleSource::Archive(path) => score(&Judged::File(path)),
            SampleSource::Chains(n, init, steps) => {
                let images = init.images(self.model, &config, (n, None))?;
                let start = init.start(&images);
                let mut options = SampleOptions { n, start, ..SampleOptions::new(&config) };
                options.steps = steps.unwrap_or(options.steps);
                score(&Judged::Chains(&options, init.words()))
            }
        }
    }
}
