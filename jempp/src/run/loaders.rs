//! The two sequences of batches of a run.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::streams;
use jempp_data::config::Sampling;
use jempp_data::{Dataset, Loader, Split, balanced, first_per_class};

/// The loaders of the images for log p(x) and of the labelled images.
///
/// # Errors
/// [`Error::Config`] if there are fewer images than in a batch, naming the data set and the key.
pub(super) fn loaders(config: &Config, set: &Dataset, split: &Split) -> Result<[Loader; 2]> {
    let t = &config.train;
    let (m, key) = match t.labelled_batch_size {
        0 => (t.batch_size, "train.batch_size"),
        m => (m, "train.labelled_batch_size"),
    };
    let labelled = first_per_class(set, &split.train, config.data.labels_per_class)?;
    if split.train.is_empty() {
        return Err(Error::Data(format!("data set `{}` has no training images", set.name())));
    }
    let enough = |images: &[u32], kind: &str, key: &str, batch: usize| {
        let (name, n) = (set.name(), images.len());
        if n >= batch {
            return Ok(());
        }
        let why = format!("data set `{name}` has {n} {kind} images, fewer than a batch: {key} is {batch}");
        Err(Error::Config(why))
    };
    enough(&split.train, "training", "train.batch_size", t.batch_size)?;
    enough(&labelled, "labelled training", key, m)?;
    let labelled = match config.data.sampling {
        Sampling::Uniform => labelled,
        Sampling::Balanced => balanced(set, &labelled)?,
    };
    Ok([
        Loader::new(split.train.clone(), t.batch_size, config.seed, streams::SHUFFLE_UNLABELLED)?,
        Loader::new(labelled, m, config.seed, streams::SHUFFLE_LABELLED)?,
    ])
}
