//! Benchmarks of this machine: whole training iterations and chain steps of a configuration, on random images, and every op
//! of the engine compared with the machine's limits.
//!
//! [`rows`] times the bench cases of the op registry; [`Ceiling`] is the measured limit that they are compared with.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod ceiling;
mod chain;
mod program;
mod table;
mod timing;

pub use ceiling::{Bandwidth, Ceiling};
pub use chain::{ChainTiming, sample_step};
pub use program::{BenchProgram, cases};
pub use table::{Bound, Row, bound, render, rows};

use engine::Device;
use engine::rng::{Philox, Stream};
use jempp::config::Config;
use jempp::run::TrainingRun;
use jempp::{Error, Result};
use jempp_data::{Dataset, Split};
use rand_core::Rng;
use serde::{Deserialize, Serialize};

/// Images of the synthetic data set, unless the batch size or the number of classes is larger.
const IMAGES: usize = 256;

/// Times of whole training iterations: augmentation, sampling, grouped pass, update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepTiming {
    /// Median seconds of an iteration.
    pub median_s: f64,
    /// Minimum seconds of an iteration.
    pub min_s: f64,
    /// 10⁹ planned floating-point operations per second, at the median.
    pub gflops: f64,
    /// Labelled images per second, at the median.
    pub images_per_second: f64,
    /// Iterations timed.
    pub iterations: usize,
    /// Untimed iterations before these.
    pub warmup: usize,
    /// CPU threads.
    pub threads: usize,
    /// The device.
    pub device: String,
    /// Bytes of the planned programs.
    pub planned_bytes: u64,
    /// Bytes of weights, optimiser, statistics, buffer and images.
    pub state_bytes: u64,
    /// Number of trainable parameters.
    pub parameters: u64,
    /// Planned floating-point operations of an iteration.
    pub flops: u64,
}

/// A training run on a few hundred random uint8 images of `model.image_size`; `data.dataset` and `data.valid_size` are
/// ignored.
///
/// # Errors
/// Those of [`TrainingRun::new`].
pub fn synthetic_run(config: &Config, device: &Device) -> Result<TrainingRun> {
    config.validate()?;
    let (m, t) = (&config.model, &config.train);
    let n = IMAGES.max(t.batch_size).max(t.labelled_batch_size).max(m.classes);
    let mut rng = Philox::new(config.seed, Stream::TEST, 0);
    let mut images = vec![0; n * m.image_size.iter().product::<usize>()];
    rng.fill_bytes(&mut images);
    let labels = (0..n).map(|i| (i % m.classes) as u16).collect();
    let set = Dataset::new("synthetic", m.image_size, m.classes, images, labels)?;
    let split = Split { train: (0..n as u32).collect(), valid: Vec::new(), test: Vec::new() };
    TrainingRun::with_data(config, device, set, split)
}

/// FLOPs up to which a whole iteration is timed.
const TIMED: u64 = 2_000_000_000_000;

/// Seconds of one iteration of `run`, and whether they were measured. An iteration of more than two TFLOP is estimated from
/// the rate of the same network on small batches with one chain step.
///
/// # Errors
/// The errors of an iteration.
pub fn iteration_seconds(run: &mut TrainingRun) -> Result<(f64, bool)> {
    let flops = run.train_step().footprint().flops;
    if flops <= TIMED {
        return Ok((run.time_iterations(2)?[1], true));
    }
    let mut small = run.train_step().config().clone();
    (small.train.batch_size, small.train.labelled_batch_size, small.sampler.outer_steps) = (8, 0, 1);
    small.sampler.buffer_size =
        small.sampler.buffer_size.min(10 * small.model.classes).max(small.model.classes);
    let device = run.train_step().device().clone();
    let timing = train_step(&mut synthetic_run(&small, &device)?, 1, 1)?;
    Ok((flops as f64 / (timing.gflops * 1e9), false))
}

/// The cost of all nodes of one op in an iteration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeTiming {
    /// The op.
    pub op: String,
    /// Nodes per iteration.
    pub runs: f64,
    /// Seconds per iteration.
    pub seconds: f64,
    /// Floating-point operations per iteration.
    pub flops: f64,
    /// Bytes read or written at least once, per iteration.
    pub bytes: f64,
}

/// The time of an iteration by op, the longest first, averaged over `iterations` iterations in which each node is timed by
/// itself (on a GPU without CUDA graphs).
///
/// # Errors
/// Those of [`train_step`].
pub fn profile(run: &mut TrainingRun, iterations: usize) -> Result<Vec<NodeTiming>> {
    let n = iterations.max(1);
    let device = run.train_step().device().clone();
    device.profile().begin();
    let ran = run.time_iterations(n);
    let nodes = device.profile().end();
    ran?;
    let each = |v: f64| v / n as f64;
    let mut all: Vec<NodeTiming> = nodes
        .into_iter()
        .map(|(op, s)| NodeTiming {
            op: op.to_owned(),
            runs: each(s.runs as f64),
            seconds: each(s.seconds),
            flops: each(s.flops as f64),
            bytes: each(s.bytes as f64),
        })
        .collect();
    all.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Ok(all)
}

/// Times `iterations` iterations after `warmup` untimed ones.
///
/// # Errors
/// [`Error::Config`] if `iterations` is 0; the errors of an iteration.
pub fn train_step(run: &mut TrainingRun, warmup: usize, iterations: usize) -> Result<StepTiming> {
    if iterations == 0 {
        return Err(Error::Config("at least one iteration must be timed".into()));
    }
    run.time_iterations(warmup)?;
    let mut seconds = run.time_iterations(iterations)?;
    seconds.sort_by(f64::total_cmp);
    let half = iterations / 2;
    let median = if iterations % 2 == 1 { seconds[half] } else { (seconds[half - 1] + seconds[half]) / 2.0 };
    let trainer = run.train_step();
    let (f, t) = (trainer.footprint(), &trainer.config().train);
    let batch = if t.labelled_batch_size == 0 { t.batch_size } else { t.labelled_batch_size };
    Ok(StepTiming {
        median_s: median,
        min_s: seconds[0],
        gflops: f.flops as f64 / median / 1e9,
        images_per_second: batch as f64 / median,
        iterations,
        warmup,
        threads: trainer.device().concurrency(),
        device: trainer.device().to_string(),
        planned_bytes: f.program_bytes,
        state_bytes: f.state_bytes,
        parameters: f.parameters,
        flops: f.flops,
    })
}
