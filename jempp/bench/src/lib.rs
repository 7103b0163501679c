//! Measurements on this machine: whole training iterations and chain steps of a configuration, on images that mean
//! nothing; and every stem of the engine beside the machine's ceilings.
//!
//! [`rows`] times the registry's bench cases; [`Ceiling`] is what they are judged by.

mod ceiling;
mod chain;
mod program;
mod table;
mod timing;

pub use ceiling::{Bandwidth, Ceiling};
pub use chain::{ChainTiming, sample_step};
pub use program::{Program, cases};
pub use table::{Bound, Row, bound, render, rows};

use engine::Device;
use engine::rng::{Philox, Stream};
use jempp::config::Config;
use jempp::run::Session;
use jempp::{Error, Result};
use jempp_data::{Dataset, Split};
use rand_core::Rng;
use serde::{Deserialize, Serialize};

/// Images of the synthetic data set, unless a batch or the classes need more.
const IMAGES: usize = 256;

/// Times of whole training iterations: augmentation, sampling, grouped pass, update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepTiming {
    /// Median seconds of an iteration.
    pub median_s: f64,
    /// Fewest seconds of an iteration.
    pub min_s: f64,
    /// 10⁹ planned floating-point operations a second, at the median.
    pub gflops: f64,
    /// Labelled images a second, at the median.
    pub images_per_second: f64,
    /// Iterations timed.
    pub iterations: usize,
    /// Iterations before, not timed.
    pub warmup: usize,
    /// CPU threads.
    pub threads: usize,
    /// Where it ran.
    pub device: String,
    /// Bytes of the planned programs.
    pub planned_bytes: u64,
    /// Bytes of weights, optimiser, statistics, buffer and images.
    pub state_bytes: u64,
    /// Trained values.
    pub parameters: u64,
    /// Planned floating-point operations of an iteration.
    pub flops: u64,
}

/// A session on a few hundred uint8 images of `model.image_size`, drawn from the seed; `data.dataset` and
/// `data.valid_size` are not used.
///
/// # Errors
/// As [`Session::new`].
pub fn synthetic_session(config: &Config, device: &Device) -> Result<Session> {
    config.validate()?;
    let (m, t) = (&config.model, &config.train);
    let n = IMAGES.max(t.batch_size).max(t.labelled_batch_size).max(m.classes);
    let mut rng = Philox::new(config.seed, Stream::TEST, 0);
    let mut images = vec![0; n * m.image_size.iter().product::<usize>()];
    rng.fill_bytes(&mut images);
    let labels = (0..n).map(|i| (i % m.classes) as u16).collect();
    let set = Dataset::new("synthetic", m.image_size, m.classes, images, labels)?;
    let split = Split { train: (0..n as u32).collect(), valid: Vec::new(), test: Vec::new() };
    Session::with_data(config, device, set, split)
}

/// FLOPs up to which an iteration is timed as it is.
const TIMED: u64 = 2_000_000_000_000;

/// Seconds of one iteration of `session`, and whether they were measured. An iteration of more than two TFLOP is
/// estimated, from the rate of the same network on small batches with one chain step.
///
/// # Errors
/// Those of an iteration.
pub fn iteration_seconds(session: &mut Session) -> Result<(f64, bool)> {
    let flops = session.trainer().footprint().flops;
    if flops <= TIMED {
        return Ok((session.time_iterations(2)?[1], true));
    }
    let mut small = session.trainer().config().clone();
    (small.train.batch_size, small.train.labelled_batch_size, small.sampler.outer_steps) = (8, 0, 1);
    small.sampler.buffer_size =
        small.sampler.buffer_size.min(10 * small.model.classes).max(small.model.classes);
    let device = session.trainer().device().clone();
    let timing = train_step(&mut synthetic_session(&small, &device)?, 1, 1)?;
    Ok((flops as f64 / (timing.gflops * 1e9), false))
}

/// What the nodes of one kind take in an iteration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeTiming {
    /// The op.
    pub op: String,
    /// Nodes an iteration.
    pub runs: f64,
    /// Seconds an iteration.
    pub seconds: f64,
    /// Floating-point operations an iteration.
    pub flops: f64,
    /// Bytes read and written at least once, an iteration.
    pub bytes: f64,
}

/// Where the time of an iteration goes, op by op, the longest first: over `iterations` iterations, each node timed by
/// itself (on a GPU without graphs).
///
/// # Errors
/// As [`train_step`].
pub fn profile(session: &mut Session, iterations: usize) -> Result<Vec<NodeTiming>> {
    let n = iterations.max(1);
    let device = session.trainer().device().clone();
    device.profile().begin();
    let ran = session.time_iterations(n);
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

/// Times `iterations` iterations after `warmup` others.
///
/// # Errors
/// [`Error::Config`] when there is none to time; those of an iteration.
pub fn train_step(session: &mut Session, warmup: usize, iterations: usize) -> Result<StepTiming> {
    if iterations == 0 {
        return Err(Error::Config("at least one iteration must be timed".into()));
    }
    session.time_iterations(warmup)?;
    let mut seconds = session.time_iterations(iterations)?;
    seconds.sort_by(f64::total_cmp);
    let half = iterations / 2;
    let median = if iterations % 2 == 1 { seconds[half] } else { (seconds[half - 1] + seconds[half]) / 2.0 };
    let trainer = session.trainer();
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
