//! Draws images of every class from a trained model into a PNG, one row per class.
//! `cargo run --release -p jempp --example sample -- MODEL OUT.png [PER_CLASS]`
use image::{Rgb, RgbImage};
use jempp::{Device, Error, Model, Result, SampleOptions, sample};

/// Draws PER_CLASS images of each class and writes them to OUT.png.
///
/// # Errors
/// Those of the library, or if the picture cannot be written.
pub fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, out, rest @ ..] = &args[..] else {
        return Err(Error::Config("usage: sample MODEL OUT.png [PER_CLASS]".into()));
    };
    let per_class = rest.first().and_then(|n| n.parse().ok()).unwrap_or(10);
    let model = Model::load(&Device::cpu(0), path.as_ref())?;
    let classes = model.network().config.classes;

    // Chains that climb log p(x, y): one per image, with the steps and constants of the model's training.
    let labels: Vec<i32> = (0..classes as i32).flat_map(|y| std::iter::repeat_n(y, per_class)).collect();
    let options =
        SampleOptions { n: labels.len(), labels: Some(labels), seed: 1, ..SampleOptions::of_model(&model)? };
    let drawn = sample(&model, &options, &mut |done, all| {
        eprint!("\rstep {done} of {all}");
        true // false would stop
    })?;
    eprintln!();

    let [h, w, c] = model.network().config.image_size;
    let mut picture = RgbImage::new((w * per_class) as u32, (h * classes) as u32);
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let (x, y) = (x as usize, y as usize);
        let image = (y / h) * per_class + x / w;
        let at = ((image * h + y % h) * w + x % w) * c;
        let byte = |channel: usize| ((drawn.images[at + channel.min(c - 1)] + 1.0) * 127.5).round() as u8;
        *pixel = Rgb([byte(0), byte(1), byte(2)]);
    }
    picture.save(out).map_err(|e| Error::Data(format!("{out}: {e}")))?;

    let mean = drawn.confidence.iter().sum::<f32>() / drawn.confidence.len().max(1) as f32;
    println!(
        "{} images in {out}; the classifier gives their classes p = {mean:.2} on average",
        drawn.labels.len()
    );
    Ok(())
}
