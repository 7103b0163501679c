//! Training inside a program that holds its images in memory; here they are the built-in digits.
//! `cargo run --release -p jempp --example train -- [FOLDER [EPOCHS]]`
//!
//! A checkpoint is saved after each epoch. If FOLDER has one, training continues from it.
use jempp::{Batch, Config, Device, Trainer, data};
use std::path::PathBuf;

/// Standard deviation of the noise on training images. A trainer uses images as they are given to it, so that
/// augmentation is the program's own. This is what `data.sigma` is on the command line.
const SIGMA: f32 = 0.1;

/// Trains for EPOCHS epochs and saves the model in FOLDER.
///
/// # Errors
/// Those of the library: among others that the folder cannot be written, or that training diverged.
pub fn main() -> jempp::Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().unwrap_or_else(|| "digits-model".into()));
    let epochs = args.next().and_then(|n| n.parse().ok()).unwrap_or(20);

    let device = Device::cpu(0); // one thread per core
    let (set, split) = data::digits::load()?;
    let mut trainer = if folder.join("ckpt").is_dir() {
        Trainer::resume(&folder, &device)?
    } else {
        let changes = [format!("train.epochs={epochs}"), "train.schedule=cosine".into()];
        let config = Config::from_sources("digits", None, &changes)?;
        // Chains restart at draws like the training images, and batch norm's final statistics are taken over them.
        Trainer::with_data(&config, &device, set.clone(), split.clone())?
    };

    let n = trainer.config().train.batch_size;
    let (mut images, mut labels) = (vec![0.0; n * set.pixels()], vec![0; n]);
    let (mut next, mut random) = (0, 1);
    for epoch in 1..=epochs {
        let (mut gap, mut right, steps) = (0.0, 0.0, split.train.len() / n);
        for _ in 0..steps {
            // 131 and the number of images have no common factor, so that every image has its turn.
            let picked: Vec<u32> =
                (next..next + n).map(|k| split.train[k * 131 % split.train.len()]).collect();
            next += n;
            data::plain_batch(&set, &picked, &mut images)?;
            images.iter_mut().for_each(|v| *v += SIGMA * normal(&mut random));
            picked.iter().zip(&mut labels).for_each(|(i, y)| *y = i32::from(set.labels()[*i as usize]));

            let batch = Batch { x_data: &images, x_labelled: &images, labels: &labels, chain_start: None };
            let metrics = trainer.step(&batch)?;
            gap += metrics.gap() / steps as f64;
            right += metrics.accuracy / steps as f64;
        }
        trainer.save(&folder)?;
        println!("epoch {epoch}: training accuracy {right:.3}, gap between data and chains {gap:+.2}");
    }
    println!("saved in {}", folder.display());
    Ok(())
}

/// A number that is close to normal, with mean 0 and variance 1: the sum of twelve uniform ones (SplitMix64).
fn normal(state: &mut u64) -> f32 {
    let mut uniform = || {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    };
    (0..12).map(|_| uniform()).sum::<f32>() - 6.0
}
