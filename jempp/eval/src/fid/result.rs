//! FID and Inception score, and how they were measured.

use super::inception_score::InceptionScore;
use crate::inception::Resize;
use serde::{Deserialize, Serialize};

/// The images or statistics that samples were compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Name of the data set, or path of the file.
    pub of: String,
    /// Part of the data set's split; absent for a file.
    pub split: Option<String>,
    /// Number of images, if it is known.
    pub n: Option<usize>,
    /// Checksum (CRC-32C) of the data set or of the file's statistics, in hexadecimal.
    pub crc32c: String,
}

/// FID and Inception score of a set of samples, with everything that they depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fid {
    /// Fréchet Inception distance.
    pub fid: f64,
    /// Inception score; absent if there are fewer images than splits.
    pub inception_score: Option<InceptionScore>,
    /// Number of samples.
    pub n: usize,
    /// Where the samples come from.
    pub samples: String,
    /// Checksum (CRC-32C) of the samples' bytes, in hexadecimal.
    pub samples_crc32c: String,
    /// What the samples were compared with.
    pub reference: Reference,
    /// The network: `fid` or `torchvision`.
    pub variant: String,
    /// Which logits the Inception score is computed from.
    pub logits: String,
    /// Checksum (CRC-32C) of the network's weights, in hexadecimal.
    pub weights_crc32c: String,
    /// How images were resized.
    pub resize: Resize,
    /// Seed of the chains and of the choice of reference images.
    pub seed: u64,
    /// Checksum (CRC-32C) of the model's weights and statistics, in hexadecimal.
    pub model_crc32c: String,
    /// Version of this software.
    pub jempp_version: String,
    /// Reasons to doubt the numbers.
    pub warnings: Vec<String>,
}

impl Fid {
    /// The measurement conditions and the warnings, in a few lines of text.
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
            self.resize.description(),
            self.logits
        );
        self.warnings.iter().for_each(|w| out += &format!("warning: {w}\n"));
        out
    }
}
