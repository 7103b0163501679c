//! The speed of sampling: one chain step of a configured sampler at a batch size.

use engine::rng::{Philox, Stream};
use engine::{Device, State};
use jempp::config::Config;
use jempp::network::Network;
use jempp::sampling::{Langevin, LangevinSpec, counter_slot, seed_slot};
use jempp::streams;
use jempp::{Error, Result};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Times of chain steps with running statistics, as in sampling from a trained model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChainTiming {
    /// Chains in a batch.
    pub batch: usize,
    /// Median seconds of a step.
    pub median_s: f64,
    /// Minimum seconds of a step.
    pub min_s: f64,
    /// Chain steps per second, summed over the chains, at the median.
    pub images_per_second: f64,
    /// 10⁹ planned floating-point operations per second, at the median.
    pub gflops: f64,
    /// Planned floating-point operations of a step.
    pub flops: u64,
    /// Bytes of the planned program.
    pub planned_bytes: u64,
    /// Steps timed.
    pub steps: usize,
}

/// Times `steps` chain steps on `batch` images with fresh weights, after `warmup` untimed steps.
///
/// # Errors
/// [`Error::Config`] if `batch` or `steps` is 0 or the configuration is not valid; [`Error::OutOfMemory`].
pub fn sample_step(
    config: &Config,
    device: &Device,
    batch: usize,
    warmup: usize,
    steps: usize,
) -> Result<ChainTiming> {
    config.validate()?;
    if batch == 0 || steps == 0 {
        return Err(Error::Config("at least one step of at least one chain must be timed".into()));
    }
    let mut state = State::on(device);
    let network = Network::with_dtype(&mut state, &config.model, device.activations())?;
    network.initialise(&mut state, config.seed)?;
    let chain = state.add("chains", network.images(batch))?;
    let mut rng = Philox::new(config.seed, Stream::TEST, 0);
    let start: Vec<f32> = (0..chain.spec.len()).map(|_| 2.0 * rng.uniform() - 1.0).collect();
    state.set(chain, &start)?;
    let (seed, counter) = (seed_slot(&mut state, config.seed)?, counter_slot(&mut state, 0)?);
    let spec = LangevinSpec {
        sampler: &config.sampler,
        chain,
        seed,
        counter,
        conditional: false,
        accumulate: None,
        dropout: false,
        stream: streams::LANGEVIN,
    };
    let mut langevin = Langevin::new(device, &network, &spec)?;
    let mut step = || -> Result<f64> {
        let start = Instant::now();
        langevin.run(&mut state, None)?;
        // A GPU is waited for.
        langevin.energy()?;
        Ok(start.elapsed().as_secs_f64())
    };
    for _ in 0..warmup {
        step()?;
    }
    let mut seconds = (0..steps).map(|_| step()).collect::<Result<Vec<f64>>>()?;
    seconds.sort_by(f64::total_cmp);
    let median = seconds[steps / 2];
    let flops = langevin.plan().cost().flops;
    Ok(ChainTiming {
        batch,
        median_s: median,
        min_s: seconds[0],
        images_per_second: batch as f64 / median,
        gflops: flops as f64 / median / 1e9,
        flops,
        planned_bytes: langevin.plan().bytes() as u64,
        steps,
    })
}
