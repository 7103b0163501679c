//! The section `model`: the network.

use jempp_data::config::rows::{self, Range};

rows::choice! {
    /// What normalises activations before each rectifier, as in the published Wide-ResNet.
    #[derive(Default)]
    pub enum NormKind {
        /// Batch normalisation with running statistics.
        #[default]
        Batch = "batch",
        /// Instance normalisation: each channel of each image by its own mean and variance, with scale and shift.
        Instance = "instance",
        /// Layer normalisation: each image by its mean and variance over all channels, with scale and shift per
        /// channel.
        Layer = "layer",
        /// ActNorm, scale·(x + loc) per channel; the first training batch sets both so that its channels have mean 0
        /// and variance 1.
        Act = "act",
        /// No normalisation.
        None = "none",
    }
}

rows::section! {
    /// The network: a Wide-ResNet (Zagoruyko & Komodakis, 2016) as JEM++ builds it.
    pub struct ModelConfig, "model." {
        /// Number of layers of the Wide-ResNet.
        depth: usize = 28, in Range::Whole(10, 1000), also "of the form 6n + 4", unit "layers";
        /// Widening factor k: the three groups of blocks have 16k, 32k and 64k channels.
        widen_factor: usize = 10, in Range::Whole(1, 64), unit "factor";
        /// Height, width and channels of an image.
        // Two layers halve the image, so less than 4 pixels leaves nothing to average.
        image_size: [usize; 3] = [32, 32, 3], in Range::Each(&[(4, 4096), (4, 4096), (1, 64)]),
            unit "pixels, pixels, channels";
        /// Number of classes.
        classes: usize = 10, in Range::Whole(2, 65_536), unit "classes";
        /// Weight of the new value in BatchNorm's running statistics (`momentum` in PyTorch).
        bn_momentum: f64 = 0.9, in Range::FRACTION, unit "fraction";
        /// Negative slope of the leaky ReLU.
        leak: f64 = 0.2, in Range::BELOW_ONE, unit "slope";
        /// Normalisation before each rectifier; only batch normalisation has running statistics.
        #[serde(default)]
        norm: NormKind = NormKind::Batch;
        /// Dropout rate between the two convolutions of a block, in training passes and in the steps of the chains.
        #[serde(default)]
        dropout: f64 = 0.0, in Range::BELOW_ONE, unit "fraction";
        /// Take log p(x) from a linear head of its own, not from the logsumexp of the logits (unconditional variant).
        #[serde(default)]
        energy_head: bool = false;
    }
}

impl ModelConfig {
    /// Checks the relations between values of this section.
    pub(super) fn check_relations(&self) -> Result<(), String> {
        if self.depth % 6 != 4 {
            let why = "must be 6n + 4 with n ≥ 1, at most 1000: 10, 16, 22, 28, …";
            return rows::refuse("model.depth", self.depth, why);
        }
        Ok(())
    }
}
