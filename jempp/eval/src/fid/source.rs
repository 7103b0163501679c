//! The images that FID and Inception score are computed for: chains of the model, or images from a file.

use super::features::to_bytes;
use crate::cache::Cache;
use crate::progress::ProgressFn;
use crate::sampling::ChainStart;
use jempp::config::Config;
use jempp::model::Model;
use jempp::sampling::draw::{SampleOptions, Start, sample};
use jempp::{Error, Result};
use jempp_formats::container::{Container, Tensor};
use jempp_formats::npz;
use std::path::Path;

/// Where the samples come from.
#[derive(Clone, Copy, Debug)]
pub enum SampleSource<'a> {
    /// Langevin chains of the model.
    Chains {
        /// Number of chains.
        n: usize,
        /// Where they start.
        start: ChainStart,
        /// Langevin steps of each chain; `None` for as many as in training.
        steps: Option<u32>,
    },
    /// The `images` of a NumPy archive.
    Archive(&'a Path),
}

/// Samples as bytes, N×H×W×C, and a description of where they come from.
pub(super) struct Samples {
    pub(super) bytes: Vec<u8>,
    pub(super) description: String,
}

impl SampleSource<'_> {
    /// Draws or reads the samples. `config` has the sampler's settings and the seed.
    pub(super) fn samples(
        &self,
        model: (&Model, &Path),
        config: &Config,
        cache: &Cache,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Samples> {
        match *self {
            Self::Archive(path) => read(path, model.0.network().config.image_size),
            Self::Chains { n, start, steps } => {
                let images = start.images(model, config, (n, None))?;
                let mut options =
                    SampleOptions { n, start: start.start(&images), ..SampleOptions::new(config) };
                options.steps = steps.unwrap_or(options.steps);
                draw(model.0, &options, start.description(), cache, progress)
            }
        }
    }
}

fn read(path: &Path, size: [usize; 3]) -> Result<Samples> {
    let images = npz::read_images(path, None)?;
    images.warning.iter().for_each(|w| tracing::warn!("{w}"));
    let path = path.display();
    if images.size != size {
        let got = images.size;
        return Err(Error::Data(format!("{path}: images of {got:?}; the model's are of {size:?}")));
    }
    Ok(Samples { bytes: to_bytes(&images.values), description: path.to_string() })
}

fn draw(
    model: &Model,
    o: &SampleOptions<'_>,
    start: &str,
    cache: &Cache,
    progress: &mut ProgressFn<'_>,
) -> Result<Samples> {
    let start_crc32c = match o.start {
        Start::Pool(x) | Start::Images(x) => {
            x.iter().fold(0, |crc, v| crc32c::crc32c_append(crc, &v.to_le_bytes()))
        }
        _ => 0,
    };
    let (n, steps, sampler) = (o.n, o.steps, &o.sampler);
    let cache =
        cache.with(&format!("{n} {steps} {start} {start_crc32c:08x} {} {sampler:?} {:?}", o.seed, o.bn));
    let kept = cache.tensors("samples", || {
        let s = sample(model, o, &mut |done, total| progress("sampling", done as usize, total as usize))?;
        Ok(Container::new([Tensor::u8("images", [s.images.len()], to_bytes(&s.images))]))
    })?;
    let bytes = kept.u8("images", &[n * model.network().pixels()])?.to_vec();
    let (size, noise) = (sampler.step_size, sampler.noise);
    let description = format!("all of {n} chains, {steps} steps of size {size} from {start}, noise {noise}");
    Ok(Samples { bytes, description })
}
