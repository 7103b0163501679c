//! InceptionV3 on this project's engine: features for Fréchet distances and logits for the Inception score.
//!
//! Invariants: all weights come from a file that the user supplies, with the names and shapes of PyTorch's state dicts; batch
//! norm uses running statistics, which are folded into the filters in float64; an image's features do not depend on the other
//! images of the batch.

mod graph;
mod resize;
mod variant;
mod weights;

use engine::{Device, HostTensor, Plan, Products, Spec, State, Tape, Var, format_bytes};
use graph::Graph;
use jempp::{Error, Result};
use jempp_formats::container::Container;
pub use resize::{Resize, Resizer, SIDE};
use std::path::Path;
pub use variant::{FEATURES, Variant};

/// Images of a batch on a CPU, where more are not faster, and on a GPU.
const BATCH: [usize; 2] = [8, 64];

/// Output of the network for n images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InceptionOutput {
    /// n×2048.
    pub features: Vec<f32>,
    /// n×classes: logits for the Inception score. Those of the `fid` variant are without the bias of the last layer, as in the
    /// original code of the score and in torch-fidelity.
    pub logits: Vec<f32>,
}

/// The network with its weights on a device.
pub struct Inception {
    /// Which network the weights are of.
    pub variant: Variant,
    /// Number of classes.
    pub classes: usize,
    /// Checksum (CRC-32C) of the weights, in the order of their names.
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
    /// Reads weights from a safetensors file or a state dict written by `torch.save`. Unless `variant` is given, it follows
    /// from the number of classes. On a CPU the network computes in float32, whatever the device's precision.
    ///
    /// # Errors
    /// [`Error::Format`] naming a tensor that is missing, unexpected or of the wrong shape; [`Error::Data`] if there is no file
    /// or the variant cannot be told from the number of classes.
    pub fn open(device: &Device, path: &Path, variant: Option<Variant>) -> Result<Self> {
        Self::new(device, &weights::read(path)?, variant, SIDE)
    }

    /// The network with the weights of a state dict, for images that are resized to `side` × `side` pixels, at least 75.
    ///
    /// # Errors
    /// Those of [`Inception::open`].
    pub fn new(device: &Device, dict: &Container, variant: Option<Variant>, side: usize) -> Result<Self> {
        let device = device.clone().with_products(Products::F32);
        let classes = weights::classes(dict)?;
        let variant = variant.or_else(|| Variant::of(classes)).ok_or_else(|| {
            Error::Data(format!(
                "the Inception weights have {classes} classes; those of FID have 1008, torchvision's 1000: name the network \
                 that they are of (--variant)"
            ))
        })?;
        let batch = BATCH[usize::from(device.is_gpu())];
        let mut state = State::on(&device);
        let mut tape = Tape::new();
        let x = tape.input("images", Spec::f32(&[batch, side, side, 3]));
        let mut graph = Graph::new(&mut tape, dict, &mut state, variant);
        let outputs = graph.record(x)?;
        weights::check_no_others(dict, graph.used())?;
        let plan = tape.plan(&device, &outputs)?;
        Ok(Self { variant, classes, crc32c: weights::crc32c(dict), side, batch, state, plan, x, outputs })
    }

    /// A description of the logits that the Inception score is computed from.
    pub fn logits(&self) -> String {
        let bias = if self.variant == Variant::Fid { "without" } else { "with" };
        format!("softmax of {} logits {bias} the last bias", self.classes)
    }

    /// Features and logits of 8-bit images N×H×W×C, after resizing. C is 3, or 1, which is repeated to three channels.
    ///
    /// # Errors
    /// [`Error::Data`] if the length is not a multiple of an image's, or C is neither 1 nor 3.
    pub fn run(&mut self, images: &[u8], [h, w, c]: [usize; 3], resize: Resize) -> Result<InceptionOutput> {
        let px = h * w * c;
        if px == 0 || !images.len().is_multiple_of(px) || (c != 1 && c != 3) {
            let n = images.len();
            return Err(Error::Data(format!(
                "{n} bytes do not divide into images of {h}×{w} pixels with 1 or 3 channels (got {c})"
            )));
        }
        let resizer = resize.to(self.side, [h, w]);
        let mut output = InceptionOutput::default();
        let mut batch = Vec::new();
        for images in images.chunks(self.batch * px) {
            batch.clear();
            images.chunks_exact(px).for_each(|image| resizer.run(image, c, &mut batch));
            self.forward(&mut batch, &mut output)?;
        }
        Ok(output)
    }

    /// Runs the network on at most [`BATCH`] resized images, N×side×side×3, and appends its output.
    fn forward(&mut self, batch: &mut Vec<f32>, output: &mut InceptionOutput) -> Result<()> {
        let px = self.side * self.side * 3;
        let n = batch.len() / px;
        batch.resize(self.batch * px, 0.0);
        self.plan.run_shared(&self.state, &[(self.x, HostTensor::F32(batch))])?;
        let take = |v: Var, out: &mut Vec<f32>, width: usize| -> Result<()> {
            out.extend_from_slice(&self.plan.fetch::<f32>(v)?[..n * width]);
            Ok(())
        };
        take(self.outputs[0], &mut output.features, FEATURES)?;
        take(self.outputs[1], &mut output.logits, self.classes)
    }
}
