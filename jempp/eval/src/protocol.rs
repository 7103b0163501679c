//! Under what conditions a number was measured.

use jempp::Result;
use jempp::evaluation::{EvalData, SplitPart};
use jempp::model::Model;
use serde::{Deserialize, Serialize};

/// What a number was measured on, and how. Batch size, threads and device are not part of it, as no number depends on them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Protocol {
    /// Name of the data set.
    pub dataset: String,
    /// Checksum (CRC-32C) of the data set, in hexadecimal.
    pub dataset_crc32c: String,
    /// Part of the split: `test`, `valid` or `train`.
    pub split: String,
    /// Number of images.
    pub n: usize,
    /// Standard deviation of Gaussian noise added to the images; pixels are in [−1, 1].
    pub noise: f64,
    /// Batch norm statistics, `recalibrated` or `running`; absent without batch norm, or if a converted model does not say.
    pub bn: Option<String>,
    /// Seed of everything random.
    pub seed: u64,
    /// Checksum (CRC-32C) of the model's weights and statistics, in hexadecimal.
    pub model_crc32c: String,
    /// Version of this software.
    pub jempp_version: String,
}

impl Protocol {
    /// The conditions for `n` images of a part of the data set, with noise of standard deviation `noise` added to them.
    ///
    /// # Errors
    /// [`jempp::Error::Internal`] if the model's weights cannot be read.
    pub fn new(model: &Model, data: &EvalData, part: SplitPart, n: usize, noise: f64) -> Result<Self> {
        Ok(Self {
            dataset: data.set.name().to_owned(),
            dataset_crc32c: format!("{:08x}", data.set.crc32c()),
            split: part.name().to_owned(),
            n,
            noise,
            bn: model.metadata.get("bn").cloned(),
            seed: data.seed,
            model_crc32c: format!("{:08x}", model.crc32c()?),
            jempp_version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// The protocol in one line of text.
    pub fn line(&self) -> String {
        let bn = self.bn.as_deref().map(|b| format!("batch norm {b}, ")).unwrap_or_default();
        let noise = if self.noise > 0.0 { format!("noise {}", self.noise) } else { "no noise".into() };
        format!(
            "{} ({}), {} {} images, {noise}, {bn}seed {}, model {}",
            self.dataset, self.dataset_crc32c, self.n, self.split, self.seed, self.model_crc32c
        )
    }
}
