//! FID and Inception score of a model's samples, by Inception weights that the user supplies.
//!
//! Invariants: all images pass through 8 bits, as published ones do; no sample is selected; n, network, resizing, and what was
//! compared with what stand beside every number. Finished portions are kept, so that an interruption loses none.

mod frechet;
mod reference;
mod score;
mod symmetric;

use super::cache::Cache;
use super::inception::{FEATURES, Inception, Resize, Seen};
use super::{Watcher, tell};
use core::ops::Range;
pub use frechet::{Moments, Statistics, distance};
use jempp::evaluation::{Part, Subject};
use jempp::model::Model;
use jempp::sampling::draw::{SampleOptions, Start, sample};
use jempp::{Error, Result};
use jempp_formats::container::{Container, Tensor};
use jempp_formats::npz;
pub use reference::REFERENCE;
use reference::reference;
pub use score::{SPLITS, Score, Scoring};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Images of a portion: seen, and kept, together.
const PORTION: usize = 512;
/// Images between looks at the watcher.
const STEP: usize = 64;

/// The images that are judged.
#[derive(Clone, Debug)]
pub enum Judged<'a> {
    /// Chains, from a start of this name.
    Chains(&'a SampleOptions<'a>, &'a str),
    /// An archive of images.
    File(&'a Path),
}

/// What they are compared with.
#[derive(Clone, Copy, Debug)]
pub enum Against<'a> {
    /// Images of a data set's part, so many drawn by the seed or all.
    Data(&'a Subject, Part, Option<usize>),
    /// An archive of statistics, as pytorch-fid writes them: `mu` and `sigma`.
    File(&'a Path),
}

/// How features are made of images.
#[derive(Debug)]
pub struct Eye<'a> {
    /// The network.
    pub inception: &'a mut Inception,
    /// How images are resized.
    pub resize: Resize,
}

/// What was compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Data set or file.
    pub of: String,
    /// Which of the data set's images.
    pub split: Option<String>,
    /// How many images, if it is known.
    pub n: Option<usize>,
    /// Checksum of the data set or the file.
    pub crc32c: String,
}

/// The numbers, and how they came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fid {
    /// Fréchet Inception distance.
    pub fid: f64,
    /// Inception score; none of fewer images than it has parts.
    pub inception_score: Option<Score>,
    /// Images judged.
    pub n: usize,
    /// Where they came from.
    pub samples: String,
    /// Checksum of their bytes.
    pub samples_crc32c: String,
    /// What they were compared with.
    pub reference: Reference,
    /// The network: `fid` or `torchvision`.
    pub variant: String,
    /// What the score takes.
    pub logits: String,
    /// Checksum of its weights.
    pub weights_crc32c: String,
    /// How images were resized.
    pub resize: Resize,
    /// Seed of chains and of the choice of images.
    pub seed: u64,
    /// Checksum of the model's weights and statistics.
    pub model_crc32c: String,
    /// Version of this software.
    pub jempp_version: String,
    /// What may make the numbers worth less.
    pub warnings: Vec<String>,
}

impl Fid {
    /// What was measured and how, in a few lines.
    pub fn lines(&self) -> String {
        let r = &self.reference;
        let n = r.n.map_or("an unknown number of".to_owned(), |n| n.to_string());
        let split = r.split.as_ref().map(|s| format!(" {s}")).unwrap_or_default();
        let chosen = format!("seed {}, model {}", self.seed, self.model_crc32c);
        let mut out = format!("{} samples ({}): {}, {chosen}\n", self.n, self.samples_crc32c, self.samples);
        out += &format!("against {n}{split} images of {} ({})\n", r.of, r.crc32c);
        out += &format!(
            "InceptionV3, variant {} ({}), {}, {}\n",
            self.variant,
            self.weights_crc32c,
            self.resize.words(),
            self.logits
        );
        self.warnings.iter().for_each(|w| out += &format!("warning: {w}\n"));
        out
    }
}

/// Values in [−1, 1] as bytes.
fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().map(|v| ((v.clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u8).collect()
}

/// Judges the samples of a model. Finished portions are kept in `folder`, if there is one, and the statistics of the
/// reference as [`REFERENCE`] in it, which [`Against::File`] reads.
///
/// # Errors
/// [`Error::Data`] for fewer than two images, or that do not fit; those of [`sample`]; [`Error::Cancelled`];
/// [`Error::Io`].
pub fn fid(
    model: &Model,
    (judged, against): (&Judged<'_>, Against<'_>),
    seed: u64,
    eye: &mut Eye<'_>,
    folder: Option<&Path>,
    watch: &mut Watcher<'_>,
) -> Result<Fid> {
    let version = env!("CARGO_PKG_VERSION");
    let weights_crc32c = format!("{:08x}", eye.inception.crc32c);
    let stamp = format!("{version} {weights_crc32c} {:?} {:?}", eye.inception.variant, eye.resize);
    let parts = folder.map(|f| f.join("parts"));
    let cache = parts.as_ref().map_or_else(|| Ok(Cache::none()), |f| Cache::at(f, stamp))?;
    let model_crc32c = format!("{:08x}", model.crc32c()?);
    let drawn = draw(model, judged, &cache.with(&model_crc32c), watch)?;
    let size = model.network().config.image_size;
    let (theirs, reference) = reference(against, seed, (eye, size), &cache, folder, watch)?;
    let px = model.network().pixels();
    let (n, crc) = (drawn.bytes.len() / px, crc32c::crc32c(&drawn.bytes));
    let (mut moments, mut scoring) = (Moments::new(FEATURES), Scoring::new(n, eye.inception.classes));
    let load = |r: Range<usize>| Ok(drawn.bytes[r.start * px..r.end * px].to_vec());
    let kept = cache.with(&format!("{crc:08x}"));
    see(eye, ("samples", n, size), &load, &kept, watch, &mut |seen| {
        moments.add(&seen.features);
        scoring.add(&seen.logits);
    })?;
    tell(watch, "distance", 0, 1)?;
    let value = distance(&moments.statistics()?, &theirs)?;
    tell(watch, "distance", 1, 1)?;
    let few = [("samples", Some(n)), ("reference images", reference.n)];
    let warnings = few.iter().filter_map(|(what, n)| few_images(what, (*n)?)).collect();
    Ok(Fid {
        fid: value,
        inception_score: scoring.score()?,
        n,
        samples: drawn.what,
        samples_crc32c: format!("{crc:08x}"),
        reference,
        variant: eye.inception.variant.name().to_owned(),
        logits: eye.inception.logits(),
        weights_crc32c,
        resize: eye.resize,
        seed,
        model_crc32c,
        jempp_version: version.to_owned(),
        warnings,
    })
}

fn few_images(what: &str, n: usize) -> Option<String> {
    (n <= FEATURES).then(|| {
        format!(
            "the covariance of {n} {what} has a rank below {FEATURES}: FID is biased upwards and can only be compared at the \
             same numbers; 10000 or more are usual"
        )
    })
}

/// Images as bytes, and what they are.
struct Drawn {
    bytes: Vec<u8>,
    what: String,
}

fn draw(model: &Model, judged: &Judged<'_>, cache: &Cache, watch: &mut Watcher<'_>) -> Result<Drawn> {
    let size = model.network().config.image_size;
    match judged {
        Judged::File(path) => {
            let images = npz::read_images(path)?;
            if images.size != size {
                let (path, got) = (path.display(), images.size);
                return Err(Error::Data(format!("{path}: images of {got:?}; the model's are of {size:?}")));
            }
            Ok(Drawn { bytes: bytes(&images.values), what: path.display().to_string() })
        }
        Judged::Chains(o, start) => {
            let pool = match o.start {
                Start::Pool(x) | Start::Images(x) => {
                    x.iter().fold(0, |crc, v| crc32c::crc32c_append(crc, &v.to_le_bytes()))
                }
                _ => 0,
            };
            let sampler = &o.sampler;
            let cache = cache.with(&format!("{} {} {start} {pool:08x} {} {sampler:?}", o.n, o.steps, o.seed));
            let kept = cache.tensors("samples", || {
                let s = sample(model, o, &mut |d, n| watch("sampling", d as usize, n as usize))?;
                Ok(Container::new([Tensor::u8("images", [s.images.len()], bytes(&s.images))]))
            })?;
            let bytes = kept.u8("images", &[o.n * model.network().pixels()])?.to_vec();
            let (step, noise) = (sampler.step_size, sampler.noise);
            let what =
                format!("all of {} chains, {} steps of {step} from {start}, noise {noise}", o.n, o.steps);
            Ok(Drawn { bytes, what })
        }
    }
}

/// Features and logits of `n` images of a name, portion by portion.
fn see(
    eye: &mut Eye<'_>,
    (name, n, size): (&str, usize, [usize; 3]),
    load: &dyn Fn(Range<usize>) -> Result<Vec<u8>>,
    cache: &Cache,
    watch: &mut Watcher<'_>,
    each: &mut dyn FnMut(&Seen),
) -> Result<()> {
    let (what, classes) = (format!("{name} through Inception"), eye.inception.classes);
    for (k, start) in (0..n).step_by(PORTION).enumerate() {
        let end = (start + PORTION).min(n);
        let m = end - start;
        let kept = cache.tensors(&format!("inception-{name}-{k:04}"), || {
            let mut all = Seen::default();
            for from in (start..end).step_by(STEP) {
                tell(watch, &what, from, n)?;
                let seen = eye.inception.see(&load(from..(from + STEP).min(end))?, size, eye.resize)?;
                all.features.extend(seen.features);
                all.logits.extend(seen.logits);
            }
            Ok(Container::new([
                Tensor::f32("features", [m, FEATURES], all.features),
                Tensor::f32("logits", [m, classes], all.logits),
            ]))
        })?;
        let features = kept.f32("features", &[m, FEATURES])?.to_vec();
        each(&Seen { features, logits: kept.f32("logits", &[m, classes])?.to_vec() });
        tell(watch, &what, end, n)?;
    }
    Ok(())
}
