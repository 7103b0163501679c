//! The two InceptionV3 networks in use.

use serde::{Deserialize, Serialize};

/// Number of features of an image: the outputs of the last pooling layer.
pub const FEATURES: usize = 2048;

/// Which network the weights are of. Names and shapes of their tensors agree, except for the number of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// The network of FID, ported from TensorFlow (pytorch-fid): 1,008 classes; average pooling excludes the padding, and the
    /// last block uses max pooling.
    Fid,
    /// The network of torchvision: 1,000 classes; average pooling includes the padding.
    Torchvision,
}

impl Variant {
    /// The variant of weights with `classes` classes, if it is known.
    pub(super) fn of(classes: usize) -> Option<Self> {
        match classes {
            1008 => Some(Self::Fid),
            1000 => Some(Self::Torchvision),
            _ => None,
        }
    }

    /// Its name in result files: `fid` or `torchvision`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fid => "fid",
            Self::Torchvision => "torchvision",
        }
    }
}
