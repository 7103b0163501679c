//! Inception features of many images, of which a bounded number is in memory at a time.

use crate::cache::Cache;
use crate::inception::{FEATURES, Inception, InceptionOutput, Resize, Variant};
use crate::progress::{ProgressFn, report_progress};
use core::ops::Range;
use jempp::Result;
use jempp::engine::Device;
use jempp_formats::container::{Container, Tensor};
use std::path::Path;

/// Images whose features are kept in one file of the cache.
const PORTION: usize = 512;
/// Images between two calls of the progress callback.
const STEP: usize = 64;

/// An InceptionV3 weight file, and how images are prepared for the network.
#[derive(Clone, Copy, Debug)]
pub struct InceptionFile<'a> {
    /// File of InceptionV3 weights.
    pub weights: &'a Path,
    /// Origin of the weights; `None` to tell it from the number of classes.
    pub variant: Option<Variant>,
    /// How images are resized to 299×299 pixels.
    pub resize: Resize,
}

impl InceptionFile<'_> {
    /// Loads the network to a device.
    ///
    /// # Errors
    /// Those of [`Inception::open`].
    pub(super) fn open(&self, device: &Device) -> Result<FeatureExtractor> {
        let inception = Inception::open(device, self.weights, self.variant)?;
        Ok(FeatureExtractor { inception, resize: self.resize })
    }
}

/// A network, and how images are resized for it.
#[derive(Debug)]
pub(super) struct FeatureExtractor {
    pub(super) inception: Inception,
    pub(super) resize: Resize,
}

impl FeatureExtractor {
    /// Calls `each` with the features and logits of `n` images of `size`, portion by portion. `load` returns the bytes of a
    /// range of images; `name` is what they are called in progress messages and in names of files.
    pub(super) fn extract(
        &mut self,
        (name, n, size): (&str, usize, [usize; 3]),
        load: &dyn Fn(Range<usize>) -> Result<Vec<u8>>,
        cache: &Cache,
        progress: &mut ProgressFn<'_>,
        each: &mut dyn FnMut(&InceptionOutput),
    ) -> Result<()> {
        let (stage, classes) = (format!("Inception features of {name}"), self.inception.classes);
        for (k, start) in (0..n).step_by(PORTION).enumerate() {
            let end = (start + PORTION).min(n);
            let m = end - start;
            let kept = cache.tensors(&format!("inception-{name}-{k:04}"), || {
                let mut all = InceptionOutput::default();
                for from in (start..end).step_by(STEP) {
                    report_progress(progress, &stage, from, n)?;
                    let bytes = load(from..(from + STEP).min(end))?;
                    let output = self.inception.run(&bytes, size, self.resize)?;
                    all.features.extend(output.features);
                    all.logits.extend(output.logits);
                }
                Ok(Container::new([
                    Tensor::f32("features", [m, FEATURES], all.features),
                    Tensor::f32("logits", [m, classes], all.logits),
                ]))
            })?;
            let features = kept.f32("features", &[m, FEATURES])?.to_vec();
            each(&InceptionOutput { features, logits: kept.f32("logits", &[m, classes])?.to_vec() });
            report_progress(progress, &stage, end, n)?;
        }
        Ok(())
    }
}

/// Values in [−1, 1] rounded to bytes.
pub(super) fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().map(|v| ((v.clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u8).collect()
}
