//! Classifies image files with a trained model and ranks them by log p(x).
//! `cargo run --release -p jempp --example classify -- MODEL IMAGE...`
use jempp::{Device, Error, Model, Result};

/// Prints for each IMAGE its class, the probability of the class, and log p(x) up to a constant, most plausible first.
///
/// # Errors
/// Those of the library, or if an image cannot be read or is not of the model's size.
pub fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(path), files) = (args.next(), args.collect::<Vec<_>>()) else {
        return Err(Error::Config("usage: classify MODEL IMAGE...".into()));
    };
    // A run, a checkpoint, a safetensors file, or a published .pt.
    let model = Model::load(&Device::cpu(0), path.as_ref())?;
    let size = model.network().config.image_size;

    let mut images = Vec::new();
    for file in &files {
        images.extend(read(file, size)?);
    }
    // One call for all images; each gets the same bits as if it were alone.
    let scores = model.scores(&images)?;
    let rows = scores.logits.chunks(model.network().config.classes);
    let mut all: Vec<_> = files.iter().zip(rows).zip(scores.log_density).collect();
    all.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    for ((file, logits), log_density) in all {
        let (class, p) = most_probable(logits);
        println!("{file}: class {class}, p = {p:.3}, log p(x) = {log_density:.2} + const");
    }
    Ok(())
}

/// An image file as H×W×C values in [−1, 1].
fn read(file: &str, [h, w, c]: [usize; 3]) -> Result<Vec<f32>> {
    let image = image::open(file).map_err(|e| Error::Data(format!("{file}: {e}")))?;
    if (image.height() as usize, image.width() as usize) != (h, w) {
        return Err(Error::Data(format!("{file}: the model takes images of {h}×{w} pixels")));
    }
    let bytes = if c == 1 { image.to_luma8().into_raw() } else { image.to_rgb8().into_raw() };
    Ok(bytes.iter().map(|b| f32::from(*b) / 127.5 - 1.0).collect())
}

/// The class with the largest logit, and its softmax probability.
fn most_probable(logits: &[f32]) -> (usize, f32) {
    let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap_or(0);
    let sum: f32 = logits.iter().map(|l| (l - logits[best]).exp()).sum();
    (best, 1.0 / sum)
}
