//! Statistics of what samples are compared with: of a data set's images, or from a file.

use super::{Against, Eye, Moments, Reference, Statistics, bytes, see};
use crate::cache::Cache;
use crate::inception::FEATURES;
use crate::{Watcher, random};
use core::ops::Range;
use engine::rng::Philox;
use jempp::evaluation::{Part, Subject};
use jempp::streams;
use jempp::{Error, Result};
use jempp_data::synthetic::{Images, Kind};
use jempp_formats::npz::{self, Array, Npz};
use std::path::Path;

/// Name of the statistics in an evaluation's folder: an archive as pytorch-fid writes them.
pub const REFERENCE: &str = "reference.npz";
/// Name of the part that says what the archive is of.
const KEPT: &str = "reference";
/// Members of the archive; the last is ours alone.
const MEMBERS: [&str; 3] = ["mu", "sigma", "n"];

/// Statistics, and what they are of.
pub(super) fn reference(
    against: Against<'_>,
    seed: u64,
    (eye, size): (&mut Eye<'_>, [usize; 3]),
    cache: &Cache,
    folder: Option<&Path>,
    watch: &mut Watcher<'_>,
) -> Result<(Statistics, Reference)> {
    let (subject, part, n) = match against {
        Against::File(path) => return from_file(path),
        Against::Data(subject, part, n) => (subject, part, n),
    };
    let indices = chosen(subject, part, n, seed)?;
    let about = Reference {
        of: subject.set.name().to_owned(),
        split: Some(part.name().to_owned()),
        n: Some(indices.len()),
        crc32c: format!("{:08x}", subject.set.crc32c()),
    };
    let which = indices.iter().fold(0, |crc, i| crc32c::crc32c_append(crc, &i.to_le_bytes()));
    let cache = cache.with(&format!("{} {which:08x}", about.crc32c));
    let file = folder.map(|f| f.join(REFERENCE));
    if let Some(kept) = file.as_deref().and_then(|f| kept(f, &cache)) {
        return Ok((kept, about));
    }
    let images = Images::new(&subject.set, &indices, Kind::Plain, seed, 0.0)?;
    let mut moments = Moments::new(FEATURES);
    let load = |r: Range<usize>| Ok(bytes(&images.load(r)?));
    see(eye, ("reference", indices.len(), size), &load, &cache, watch, &mut |seen| {
        moments.add(&seen.features)
    })?;
    let statistics = moments.statistics()?;
    if let Some(file) = file {
        write(&file, &statistics)?;
        cache.part(KEPT, || Ok(checksum(&statistics)))?;
    }
    Ok((statistics, about))
}

/// The images of a part: all, or so many drawn by the seed.
fn chosen(subject: &Subject, part: Part, n: Option<usize>, seed: u64) -> Result<Vec<u32>> {
    let mut indices = subject.part(part)?.to_vec();
    if let Some(n) = n.filter(|n| *n < indices.len()) {
        // Parts of folders are sorted by class, so their first images would not do.
        Philox::new(seed, streams::EVAL, random::SUBSET).shuffle(&mut indices);
        indices.truncate(n);
    }
    Ok(indices)
}

fn checksum(s: &Statistics) -> u32 {
    s.mean.iter().chain(&s.covariance).fold(0, |crc, v| crc32c::crc32c_append(crc, &v.to_le_bytes()))
}

/// Statistics kept by an earlier evaluation of the same reference.
fn kept(file: &Path, cache: &Cache) -> Option<Statistics> {
    let crc: u32 = cache.part(KEPT, || Err(Error::Cancelled)).ok()?;
    read(file).ok().filter(|s| checksum(s) == crc)
}

fn from_file(path: &Path) -> Result<(Statistics, Reference)> {
    let s = read(path)?;
    let (of, crc32c) = (path.display().to_string(), format!("{:08x}", checksum(&s)));
    let about = Reference { of, split: None, n: s.n, crc32c };
    Ok((s, about))
}

/// Reads `mu` and `sigma`, and `n` if it is there.
fn read(path: &Path) -> Result<Statistics> {
    let mut npz = Npz::open(path)?;
    let [mu, sigma, n] = MEMBERS;
    let ((a, mean), (b, covariance)) = (npz.f64(mu)?, npz.f64(sigma)?);
    if a != [FEATURES] || b != [FEATURES, FEATURES] {
        let path = path.display();
        return Err(Error::Data(format!(
            "{path}: `{mu}` is of {a:?} and `{sigma}` of {b:?}, but must be [{FEATURES}] and [{FEATURES}, {FEATURES}]: \
             statistics of InceptionV3's last pooling"
        )));
    }
    let n = if npz.has(n) { npz.i64(n)?.1.first().and_then(|n| usize::try_from(*n).ok()) } else { None };
    Ok(Statistics { n, mean, covariance })
}

fn write(path: &Path, s: &Statistics) -> Result<()> {
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
