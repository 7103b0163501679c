//! Batch-norm recalibration: statistics of the training images under the final weights.
//!
//! With the published momentum the running statistics consist to 90 % of those of the last labelled batch, which was
//! augmented and noisy; evaluation on clean images needs the statistics of clean images.

use crate::error::{Error, Result};
use crate::model::Model;
use crate::network::{BnMode, Network};
use crate::sampling::unbias;
use engine::ops::elementwise::Axpby;
use engine::ops::reduce::SumRows;
use engine::{Device, HostTensor, State, Tape};
use jempp_data::{Dataset, plain_batch};

/// Mean and unbiased variance of each batch norm, in the order of `network.norms`.
pub type Statistics = Vec<(Vec<f32>, Vec<f32>)>;

/// Replaces the running statistics of `model` by those that [`statistics`] computes over the images `indices` of `set`.
///
/// # Errors
/// [`Error::Data`] if there are fewer images than one batch.
pub fn recalibrate(
    model: &mut Model,
    set: &Dataset,
    indices: &[u32],
    batch: usize,
    batches: usize,
) -> Result<()> {
    let stats = statistics(model.device(), model.network(), model.state(), set, indices, batch, batches)?;
    model.set_statistics(&stats)
}

/// The mean and the variance of each batch norm over batches of `batch` images of `indices`, without augmentation, averaged
/// over all whole batches, or if `batches` is not 0 over at most as many. Empty for a network without batch norm.
///
/// # Errors
/// [`Error::Data`] if there are fewer images than one batch.
pub fn statistics(
    device: &Device,
    network: &Network,
    state: &State,
    set: &Dataset,
    indices: &[u32],
    batch: usize,
    batches: usize,
) -> Result<Statistics> {
    if network.norms.is_empty() {
        return Ok(Vec::new());
    }
    let mut tape = Tape::new();
    let x = tape.input("x", network.images(batch));
    let f = network.forward(&mut tape, x, &BnMode::Train(vec![batch]))?;
    let mut outputs = Vec::new();
    for ((mean, var), offset) in f.stats.iter().zip(network.offsets(&mut tape, false)?) {
        // The mean of one group, with what it lacks.
        let mean = tape.one(SumRows, &[*mean])?;
        let mean = offset.map_or(Ok(mean), |o| tape.one(Axpby { a: 1.0, b: 1.0 }, &[mean, o]))?;
        outputs.extend([mean, *var]);
    }
    let mut plan = tape.plan(device, &outputs)?;
    let mut sums: Vec<Vec<f64>> = vec![Vec::new(); outputs.len()];
    let mut images = vec![0.0; batch * network.pixels()];
    let limit = if batches == 0 { usize::MAX } else { batches };
    let mut count = 0;
    for chunk in indices.chunks_exact(batch).take(limit) {
        plain_batch(set, chunk, &mut images)?;
        plan.run_shared(state, &[(x, HostTensor::F32(&images))])?;
        for (sum, v) in sums.iter_mut().zip(&outputs) {
            let stats = plan.fetch::<f32>(*v)?;
            sum.resize(stats.len(), 0.0);
            sum.iter_mut().zip(stats).for_each(|(s, v)| *s += f64::from(v));
        }
        count += 1;
    }
    if count == 0 {
        let n = indices.len();
        return Err(Error::Data(format!("recalibration needs a batch of {batch} images, there are {n}")));
    }
    sums.chunks_exact(2)
        .enumerate()
        .map(|(i, pair)| {
            let correct = unbias(&[batch * f.pixels(&tape, i)?])[0] / f64::from(count);
            let mean = pair[0].iter().map(|v| (v / f64::from(count)) as f32).collect();
            Ok((mean, pair[1].iter().map(|v| (v * correct) as f32).collect()))
        })
        .collect()
}
