//! Diagnostics of samples: grids of chains, the best and the worst by the model's own scores, nearest training images, and
//! properties of the replay buffer.
//!
//! Invariant: no image is selected by hand. Captions say where images are selected by a score; all others are in an order drawn
//! from the seed.

mod figures;
mod nearest;
mod picture;
mod replay_buffer;

use crate::progress::{ProgressFn, report_progress};
use figures::SampleFigures;
use jempp::config::Config;
use jempp::evaluation::EvalData;
use jempp::model::Model;
use jempp::sampling::draw::{SampleOptions, replay_buffer as load_buffer};
use jempp::{Error, Result};
pub use nearest::NearestNeighbours;
pub use picture::Picture;
pub use replay_buffer::{BufferDiagnostics, ChainAges};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Diagnostics of a model's samples and of its replay buffer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleDiagnostics {
    /// Seed of starts, noise and orders.
    pub seed: u64,
    /// Langevin steps of fresh chains.
    pub steps: u32,
    /// Mean unnormalised log p(x) and mean max p(y|x) of fresh chains of p(x); absent if no p(x) was trained.
    pub fresh: Option<[f64; 2]>,
    /// The replay buffer, if there is one.
    pub buffer: Option<BufferDiagnostics>,
    /// Distances of fresh chains to training images; absent if no p(x) was trained.
    pub nearest: Option<NearestNeighbours>,
    /// The image files.
    pub pictures: Vec<Picture>,
}

/// Samples from the model, which was loaded from `path`, and writes image files to the folder `out`. `config` is the model's
/// configuration; `data` is the data set it was trained on.
///
/// # Errors
/// [`Error::Data`] for images of other than 1 or 3 channels; those of sampling; [`Error::Cancelled`]; [`Error::Io`].
pub(crate) fn diagnose_samples(
    (model, path): (&Model, &Path),
    config: &Config,
    data: &EvalData,
    out: &Path,
    progress: &mut ProgressFn<'_>,
) -> Result<SampleDiagnostics> {
    let size = model.network().config.image_size;
    if size[2] != 1 && size[2] != 3 {
        return Err(Error::Data(format!("images of {} channels cannot be drawn", size[2])));
    }
    let seed = data.seed;
    let mut figures = SampleFigures::new(model, out, seed);
    figures.class_gaussians()?;
    let options = SampleOptions { seed, ..SampleOptions::new(config) };
    let (mut fresh, mut buffer, mut nearest) = (None, None, None);
    if config.train.p_x_weight > 0.0 || config.train.p_x_y_weight > 0.0 {
        let images = figures.fresh(&options, progress)?;
        fresh = Some(figures.means(&images)?);
        figures.by_class(&options, progress)?;
        figures.animation(&options, progress)?;
        if let Ok(chains) = load_buffer(path, model) {
            figures.best_and_worst(&chains, progress)?;
            report_progress(progress, "replay buffer", 0, 1)?;
            buffer = Some(replay_buffer::diagnose(model, config, &chains, seed)?);
            report_progress(progress, "replay buffer", 1, 1)?;
        }
        nearest = Some(figures.nearest(data, &images, progress)?);
    }
    Ok(SampleDiagnostics { seed, steps: options.steps, fresh, buffer, nearest, pictures: figures.pictures })
}
