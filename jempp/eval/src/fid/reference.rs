//! Feature statistics of the reference: of images of a data set, or from a file.

use super::features::{FeatureExtractor, to_bytes};
use super::frechet::{FeatureStatistics, FeatureSums};
use super::result::Reference;
use crate::cache::Cache;
use crate::inception::FEATURES;
use crate::progress::ProgressFn;
use crate::subset::random_subset;
use core::ops::Range;
use jempp::evaluation::{EvalData, SplitPart};
use jempp::{Error, Result};
use jempp_data::synthetic::{EvalImages, ImageKind};
use jempp_formats::npz::{self, Array, Npz};
use std::path::Path;

/// Name of the reference statistics in a results folder: an archive as pytorch-fid writes it.
pub const REFERENCE: &str = "reference.npz";
/// Name of the part of the cache that holds the checksum of that archive.
const KEPT: &str = "reference";
/// Members of the archive; pytorch-fid does not write the last one.
const MEMBERS: [&str; 3] = ["mu", "sigma", "n"];

/// What samples are compared with.
#[derive(Clone, Copy, Debug)]
pub enum ReferenceSource<'a> {
    /// Images of a part of a data set: this number of them, drawn at random, or all.
    Images(&'a EvalData, SplitPart, Option<usize>),
    /// An archive of statistics `mu` and `sigma`, as pytorch-fid and clean-fid write it.
    Statistics(&'a Path),
}

impl ReferenceSource<'_> {
    /// The statistics, and what they are of. They are kept in `folder` as [`REFERENCE`], if one is given. `size` is that of
    /// the model's images.
    pub(super) fn statistics(
        self,
        seed: u64,
        (extractor, size): (&mut FeatureExtractor, [usize; 3]),
        cache: &Cache,
        folder: Option<&Path>,
        progress: &mut ProgressFn<'_>,
    ) -> Result<(FeatureStatistics, Reference)> {
        let (data, part, n) = match self {
            Self::Statistics(path) => return from_file(path),
            Self::Images(data, part, n) => (data, part, n),
        };
        let indices = random_subset(data.part(part)?, n, seed);
        let about = Reference {
            of: data.set.name().to_owned(),
            split: Some(part.name().to_owned()),
            n: Some(indices.len()),
            crc32c: format!("{:08x}", data.set.crc32c()),
        };
        let which = indices.iter().fold(0, |crc, i| crc32c::crc32c_append(crc, &i.to_le_bytes()));
        let cache = cache.with(&format!("{} {which:08x}", about.crc32c));
        let file = folder.map(|f| f.join(REFERENCE));
        if let Some(kept) = file.as_deref().and_then(|f| kept(f, &cache)) {
            return Ok((kept, about));
        }
        let images = EvalImages::new(&data.set, &indices, ImageKind::Plain, seed, 0.0)?;
        let mut sums = FeatureSums::new(FEATURES);
        let load = |r: Range<usize>| Ok(to_bytes(&images.load(r)?));
        extractor.extract(("reference", indices.len(), size), &load, &cache, progress, &mut |output| {
            sums.add(&output.features)
        })?;
        let statistics = sums.statistics()?;
        if let Some(file) = file {
            write(&file, &statistics)?;
            cache.part(KEPT, || Ok(checksum(&statistics)))?;
        }
        Ok((statistics, about))
    }
}

fn checksum(s: &FeatureStatistics) -> u32 {
    s.mean.iter().chain(&s.covariance).fold(0, |crc, v| crc32c::crc32c_append(crc, &v.to_le_bytes()))
}

/// The statistics that an earlier evaluation with the same reference has written to `file`, if the checksum agrees.
fn kept(file: &Path, cache: &Cache) -> Option<FeatureStatistics> {
    let crc: u32 = cache.part(KEPT, || Err(Error::Cancelled)).ok()?;
    read(file).ok().filter(|s| checksum(s) == crc)
}

fn from_file(path: &Path) -> Result<(FeatureStatistics, Reference)> {
    let s = read(path)?;
    let (of, crc32c) = (path.display().to_string(), format!("{:08x}", checksum(&s)));
    let about = Reference { of, split: None, n: s.n, crc32c };
    Ok((s, about))
}

/// Reads `mu` and `sigma`, and `n` if it is there.
fn read(path: &Path) -> Result<FeatureStatistics> {
    let mut npz = Npz::open(path)?;
    let [mu, sigma, n] = MEMBERS;
    let ((a, mean), (b, covariance)) = (npz.f64(mu)?, npz.f64(sigma)?);
    if a != [FEATURES] || b != [FEATURES, FEATURES] {
        let path = path.display();
        return Err(Error::Data(format!(
            "{path}: `{mu}` has the shape {a:?} and `{sigma}` {b:?}, but they must be [{FEATURES}] and \
             [{FEATURES}, {FEATURES}]: statistics of the last pooling layer of InceptionV3"
        )));
    }
    let n = if npz.has(n) { npz.i64(n)?.1.first().and_then(|n| usize::try_from(*n).ok()) } else { None };
    Ok(FeatureStatistics { n, mean, covariance })
}

fn write(path: &Path, s: &FeatureStatistics) -> Result<()> {
    let [mu, sigma, n] = MEMBERS;
    let d = s.mean.len();
    let count = [s.n.unwrap_or(0) as i64];
    npz::write(
        path,
        &[
            (mu, Array::F64(&[d], &s.mean)),
            (sigma, Array::F64(&[d, d], &s.covariance)),
            (n, Array::I64(&[1], &count)),
        ],
    )?;
    Ok(())
}
