//! InceptionV3 on our engine: the features that Fréchet distances compare and the probabilities of the Inception score.
//!
//! Invariants: weights come from a file that the user supplies, and every tensor of the network from it, under the name and
//! with the shape of PyTorch's state dicts; batch norm uses its running statistics, folded into the filters in float64; an
//! image's features do not depend on the images beside it.

mod graph;
mod resize;
mod weights;

use engine::{Device, HostTensor, Plan, Products, State, Tape, Var, format_bytes};
use graph::Graph;
use jempp::{Error, Result};
use jempp_formats::container::Container;
pub use resize::{Resize, Resizer, SIDE};
use serde::{Deserialize, Serialize};
use std::path::Path;
pub use weights::read;

/// Features of an image: what the last pooling gives.
pub const FEATURES: usize = 2048;
/// Images that run at a time on a CPU, which gains nothing by more, and on a GPU.
const BATCH: [usize; 2] = [8, 64];

/// Which network the weights are of. Their tensors have the same names and shapes but for the number of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// That of FID, ported from TensorFlow (pytorch-fid): 1,008 classes; means leave the margin out, and the last block's
    /// pooling takes the largest value.
    Fid,
    /// torchvision's: 1,000 classes; means count the margin.
    Torchvision,
}

impl Variant {
    /// That of weights with so many classes, if it is known.
    fn of(classes: usize) -> Option<Self> {
        match classes {
            1008 => Some(Self::Fid),
            1000 => Some(Self::Torchvision),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fid => "fid",
            Self::Torchvision => "torchvision",
        }
    }
}

/// What the network says of n images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// n×2048.
    pub features: Vec<f32>,
    /// n×classes: what the Inception score takes the softmax of. Of the `fid` variant without the bias of the last layer, as
    /// the score's first code and torch-fidelity take them.
    pub logits: Vec<f32>,
}

/// The network with weights, on a device.
pub struct Inception {
    /// Which network it is.
    pub variant: Variant,
    /// Number of classes.
    pub classes: usize,
    /// Checksum (CRC-32C) of the weights' values, in the order of their names.
    pub crc32c: u32,
    side: usize,
    batch: usize,
    state: State,
    plan: Plan,
    x: Var,
    outputs: [Var; 2],
}

impl core::fmt::Debug for Inception {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let memory = format_bytes(self.plan.bytes() as u64);
        write!(f, "Inception({}, {} classes, {memory} of values)", self.variant.name(), self.classes)
    }
}

impl Inception {
    /// Reads weights from a safetensors file or a state dict of `torch.save`. The number of classes tells the variant,
    /// unless one is named. Computes in float32 on a CPU, whatever its products.
    ///
    /// # Errors
    /// [`Error::Format`] naming a tensor that is missing, misshapen or no part of the network; [`Error::Data`] when the
    /// variant cannot be told.
    pub fn open(device: &Device, path: &Path, variant: Option<Variant>) -> Result<Self> {
        Self::new(device, &read(path)?, variant, SIDE)
    }

    /// The same from a state dict, for images of `side` × `side` pixels, which are at least 75.
    ///
    /// # Errors
    /// As [`Inception::open`].
    pub fn new(device: &Device, dict: &Container, variant: Option<Variant>, side: usize) -> Result<Self> {
        let device = device.clone().with_products(Products::F32);
        let classes = weights::classes(dict)?;
        let variant = variant.or_else(|| Variant::of(classes)).ok_or_else(|| {
            Error::Data(format!(
                "the Inception weights have {classes} classes; those of FID have 1008, torchvision's 1000: say which network \
                 they are of (--variant)"
            ))
        })?;
        let batch = BATCH[usize::from(device.is_gpu())];
        let mut state = State::on(&device);
        let mut tape = Tape::new();
        let x = tape.input("images", engine::Spec::f32(&[batch, side, side, 3]));
        let mut graph = Graph::new(&mut tape, dict, &mut state, variant);
        let outputs = graph.record(x)?;
        weights::check_rest(dict, graph.used())?;
        let plan = tape.plan(&device, &outputs)?;
        Ok(Self { variant, classes, crc32c: weights::crc32c(dict), side, batch, state, plan, x, outputs })
    }

    /// How this network's logits enter the Inception score, in words.
    pub fn logits(&self) -> String {
        let bias = if self.variant == Variant::Fid { "without" } else { "with" };
        format!("softmax of {} logits {bias} the last bias", self.classes)
    }

    /// What the network says of 8-bit images N×H×W×C, of one channel (which stands for all three) or three, resized.
    ///
    /// # Errors
    /// [`Error::Data`] for images that are none.
    pub fn see(&mut self, images: &[u8], [h, w, c]: [usize; 3], resize: Resize) -> Result<Seen> {
        let px = h * w * c;
        if px == 0 || !images.len().is_multiple_of(px) || (c != 1 && c != 3) {
            let n = images.len();
            return Err(Error::Data(format!(
                "{n} bytes are no images of {h}×{w} pixels and 1 or 3 channels ({c})"
            )));
        }
        let resizer = resize.to(self.side, [h, w]);
        let mut seen = Seen::default();
        let mut batch = Vec::new();
        for images in images.chunks(self.batch * px) {
            batch.clear();
            images.chunks_exact(px).for_each(|image| resizer.run(image, c, &mut batch));
            self.forward(&mut batch, &mut seen)?;
        }
        Ok(seen)
    }

    /// Runs at most a batch of images as the network takes them, N×side×side×3.
    fn forward(&mut self, batch: &mut Vec<f32>, seen: &mut Seen) -> Result<()> {
        let px = self.side * self.side * 3;
        let n = batch.len() / px;
        batch.resize(self.batch * px, 0.0);
        self.plan.run_shared(&self.state, &[(self.x, HostTensor::F32(batch))])?;
        let take = |v: Var, out: &mut Vec<f32>, width: usize| -> Result<()> {
            out.extend_from_slice(&self.plan.fetch::<f32>(v)?[..n * width]);
            Ok(())
        };
        take(self.outputs[0], &mut seen.features, FEATURES)?;
        take(self.outputs[1], &mut seen.logits, self.classes)
    }
}
