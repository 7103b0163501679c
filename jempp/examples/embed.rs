//! A host program: train a little, keep a snapshot, classify, draw images. `cargo run --release -p jempp --example embed`
use jempp::{Batch, Config, Device, SampleOptions, Trainer, data, sample};

/// All of it.
///
/// # Errors
/// Those of the library.
pub(crate) fn main() -> jempp::Result<()> {
    let device = Device::cpu(0);
    let config = Config::from_sources("digits", None, &["sampler.buffer_size=500".into()])?;
    let (n, classes) = (config.train.batch_size, config.model.classes);
    let (set, split) = data::digits::load()?;
    let images = |first: usize| {
        let mut x = vec![0.0; n * set.pixels()];
        data::plain_batch(&set, &split.train[first..first + n], &mut x).map(|()| x)
    };
    let labels = |first: usize| -> Vec<i32> {
        split.train[first..first + n].iter().map(|i| i32::from(set.labels()[*i as usize])).collect()
    };
    let mut trainer = Trainer::with_data(&config, &device, set.clone(), split.clone())?;
    for step in 0..20 {
        let (x, y) = (images(step * n)?, labels(step * n));
        let batch = Batch { x_data: &x, x_labelled: &x, labels: &y, chain_start: None };
        let m = trainer.step(&batch)?;
        println!("step {:2}  loss {:7.3}  accuracy {:.2}", m.step, m.loss, m.accuracy);
    }
    let model = trainer.model()?;
    let logits = model.logits(&images(0)?)?;
    let best = |row: &[f32]| (0..classes).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0) as i32;
    let right = logits.chunks(classes).zip(labels(0)).filter(|(row, y)| best(row) == *y).count();
    println!("{right} of {n} right");
    let drawn =
        sample(&model, &SampleOptions { n: 4, ..SampleOptions::of_model(&model)? }, &mut |_, _| true)?;
    println!("drew images of classes {:?}, log densities {:.2?}", drawn.labels, drawn.log_density);
    Ok(())
}
