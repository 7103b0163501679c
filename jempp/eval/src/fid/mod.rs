//! FID and Inception score of a model's samples, with InceptionV3 weights that the user supplies.
//!
//! Invariants: all images are rounded to 8 bits, as published ones are; samples are not selected; every number comes with the
//! number of images, the network, the resizing and the reference; finished parts are kept in the cache.

mod features;
mod frechet;
mod inception_score;
mod reference;
mod result;
mod source;
mod symmetric;

use crate::cache::Cache;
use crate::inception::FEATURES;
use crate::progress::{ProgressFn, report_progress};
use crate::sampling::SamplerOverrides;
use core::ops::Range;
use features::FeatureExtractor;
pub use features::InceptionFile;
pub use frechet::{FeatureStatistics, FeatureSums, frechet_distance};
pub use inception_score::{InceptionScore, InceptionScoreSums};
use jempp::model::Model;
use jempp::{Error, Result};
pub use reference::{REFERENCE, ReferenceSource};
pub use result::{Fid, Reference};
pub use source::SampleSource;
use source::Samples;
use std::path::Path;

/// Which samples to evaluate, and what to compare them with.
#[derive(Clone, Debug)]
pub struct FidJob<'a> {
    /// The model, and the path it was loaded from.
    pub model: (&'a Model, &'a Path),
    /// The samples.
    pub source: SampleSource<'a>,
    /// What the samples are compared with.
    pub reference: ReferenceSource<'a>,
    /// The network that extracts features.
    pub inception: InceptionFile<'a>,
    /// Seed of the chains and of the choice of reference images; `None` for that of the model's configuration.
    pub seed: Option<u64>,
    /// Folder for finished parts and for the reference statistics ([`REFERENCE`]), if they are to be kept.
    pub folder: Option<&'a Path>,
}

impl FidJob<'_> {
    /// Draws or reads the samples and computes FID and Inception score.
    ///
    /// # Errors
    /// [`Error::Config`] for fewer than two chains, which have no covariance; [`Error::Data`] for images, weights or
    /// statistics that do not fit; those of sampling; [`Error::Cancelled`]; [`Error::Io`].
    pub fn run(&self, progress: &mut ProgressFn<'_>) -> Result<Fid> {
        let (model, _) = self.model;
        if let SampleSource::Chains { n: n @ (0 | 1), .. } = self.source {
            return Err(Error::Config(format!(
                "{n} samples have no covariance; take at least 2, better 10000"
            )));
        }
        let mut extractor = self.inception.open(model.device())?;
        let config = SamplerOverrides { seed: self.seed, ..SamplerOverrides::default() }.config(model)?;
        let inception = &extractor.inception;
        let (variant, crc) = (inception.variant, inception.crc32c);
        let version = env!("CARGO_PKG_VERSION");
        let stamp = format!("{version} {crc:08x} {variant:?} {:?}", extractor.resize);
        let parts = self.folder.map(|f| f.join("parts"));
        let cache = parts.as_ref().map_or_else(|| Ok(Cache::none()), |f| Cache::at(f, stamp))?;
        let model_crc32c = format!("{:08x}", model.crc32c()?);
        let samples = self.source.samples(self.model, &config, &cache.with(&model_crc32c), progress)?;
        let size = model.network().config.image_size;
        let (statistics, reference) =
            self.reference.statistics(config.seed, (&mut extractor, size), &cache, self.folder, progress)?;
        let crc = crc32c::crc32c(&samples.bytes);
        let kept = cache.with(&format!("{crc:08x}"));
        let (n, sums, scores) = extract_samples(&mut extractor, &samples, size, &kept, progress)?;
        report_progress(progress, "distance", 0, 1)?;
        let fid = frechet_distance(&sums.statistics()?, &statistics)?;
        report_progress(progress, "distance", 1, 1)?;
        let few = [("samples", Some(n)), ("reference images", reference.n)];
        Ok(Fid {
            fid,
            inception_score: scores.score()?,
            n,
            samples: samples.description,
            samples_crc32c: format!("{crc:08x}"),
            warnings: few.iter().filter_map(|(what, n)| few_images(what, (*n)?)).collect(),
            reference,
            variant: variant.name().to_owned(),
            logits: extractor.inception.logits(),
            weights_crc32c: format!("{:08x}", extractor.inception.crc32c),
            resize: extractor.resize,
            seed: config.seed,
            model_crc32c,
            jempp_version: version.to_owned(),
        })
    }
}

/// The number of samples, and the sums of their features and logits that FID and Inception score are computed from.
fn extract_samples(
    extractor: &mut FeatureExtractor,
    samples: &Samples,
    size: [usize; 3],
    cache: &Cache,
    progress: &mut ProgressFn<'_>,
) -> Result<(usize, FeatureSums, InceptionScoreSums)> {
    let px: usize = size.iter().product();
    let n = samples.bytes.len() / px;
    let mut sums = FeatureSums::new(FEATURES);
    let mut scores = InceptionScoreSums::new(n, extractor.inception.classes);
    let load = |r: Range<usize>| Ok(samples.bytes[r.start * px..r.end * px].to_vec());
    extractor.extract(("samples", n, size), &load, cache, progress, &mut |output| {
        sums.add(&output.features);
        scores.add(&output.logits);
    })?;
    Ok((n, sums, scores))
}

fn few_images(what: &str, n: usize) -> Option<String> {
    (n <= FEATURES).then(|| {
        format!(
            "the covariance of {n} {what} has a rank below {FEATURES}: FID is biased upwards and can only be compared at the \
             same number of images; 10000 or more are usual"
        )
    })
}
