//! Whole JEM++ iterations: time, rate of arithmetic, memory.

use super::speed::refused;
use super::{Found, Journal, Size, fell_back};
use crate::{Error, Result};
use engine::{BatchNormBy, Debugging, Device, Precision};
use jempp::config::{Config, with_advice};
use jempp::run::TrainingRun;
use jempp_bench::{synthetic_run, train_step};
use serde_json::json;

/// The precision of products: `--precision` of the command line.
pub(super) const PRECISIONS: &[(&str, Precision)] =
    &[("f32", Precision::F32), ("tf32", Precision::Tf32), ("bf16", Precision::Bf16)];

/// A network: name in reports, depth and widening factor.
pub(super) struct Network {
    pub(super) name: &'static str,
    depth: usize,
    widen: usize,
}

const NETWORKS: &[Network] = &[
    Network { name: "WRN-28-10", depth: 28, widen: 10 },
    Network { name: "WRN-16-4", depth: 16, widen: 4 },
    Network { name: "WRN-28-2", depth: 28, widen: 2 },
];

const TINY: &[Network] = &[Network { name: "tiny", depth: 10, widen: 1 }];

/// The network of a name, or the first.
///
/// # Errors
/// If there is none of that name.
pub(super) fn network(name: Option<&str>, size: Size) -> Result<&'static Network> {
    let all = if size == Size::Real { NETWORKS } else { TINY };
    let found = all.iter().find(|n| name.is_none_or(|name| name == n.name));
    let names: Vec<&str> = all.iter().map(|n| n.name).collect();
    found.ok_or_else(|| Error::Device(format!("there is no such network; there are {}", names.join(", "))))
}

pub(super) fn checks(journal: &mut Journal, device: &Device, name: Option<&str>, size: Size) -> Result<()> {
    let network = network(name, size)?;
    journal.check("training iteration", network.name, || one(device, network, size))
}

/// The device opened anew in another precision, with nothing allocated on it.
pub(super) fn fresh(device: &Device, precision: Precision) -> Result<Device> {
    let ordinal = device.as_gpu().map_or(0, |gpu| gpu.device().ordinal);
    let fresh = Device::cuda(ordinal, precision, Debugging::default());
    let fresh = fresh.map_err(|why| Error::Device(why.to_string()))?;
    if let Some(gpu) = fresh.as_gpu() {
        gpu.require_libraries();
    }
    Ok(fresh)
}

/// Batch 64, M = 10, N = 5, CIFAR's sizes; much smaller for a simulated device.
pub(super) fn session(device: &Device, network: &Network, size: Size) -> Result<TrainingRun> {
    let mut keys = vec![
        format!("model.depth={}", network.depth),
        format!("model.widen_factor={}", network.widen),
        "sampler.outer_steps=10".to_owned(),
        "sampler.inner_steps=5".to_owned(),
        "sampler.buffer_size=1000".to_owned(),
        "train.batch_size=64".to_owned(),
    ];
    if size == Size::Small {
        let small = ["model.image_size=[8,8,1]", "train.batch_size=4", "sampler.outer_steps=2", "data.pad=0"];
        keys.extend(small.map(str::to_owned));
    }
    let config = Config::from_sources("jempp", None, &keys)?;
    synthetic_run(&config, device).map_err(|e| with_advice(e, &config))
}

fn one(device: &Device, network: &Network, size: Size) -> Result<Found> {
    let Some(gpu) = device.as_gpu() else { return Ok(Err("this is no GPU".into())) };
    let peak = || Ok::<_, Error>(gpu.memory_peak().map_err(refused)?.unwrap_or(0));
    let before = gpu.memory_free().map_err(refused)?;
    let mut session = session(device, network, size)?;
    if let Some(why) = fell_back(gpu) {
        return Ok(Err(why.into()));
    }
    let (warmup, iterations) = if size == Size::Real { (3, 10) } else { (2, 2) };
    session.time_iterations(warmup)?;
    let with_setup = peak()?;
    // Without what was used to choose algorithms.
    gpu.restart_memory_peak().map_err(refused)?;
    let t = train_step(&mut session, 0, iterations)?;
    let most = peak()?;
    let used = before.saturating_sub(gpu.memory_free().map_err(refused)?);
    let refusal = session.train_step().capture_refused().map(ToString::to_string);
    let config = session.train_step().config();
    let text = format!(
        "{:.2} ms, {:.1} TFLOP/s, {:.0} images/s, {:.2} GiB at most ({:.2} of state, {:.2} of programs){}",
        t.median_s * 1e3,
        t.gflops / 1e3,
        t.images_per_second,
        gib(most),
        gib(t.state_bytes),
        gib(t.planned_bytes),
        refusal.as_ref().map_or(String::new(), |why| format!("; NO CUDA GRAPH: {why}"))
    );
    let name = PRECISIONS.iter().find(|(_, p)| *p == gpu.precision()).map_or("", |(name, _)| name);
    let data = json!({
        "batch_norm": if gpu.batch_norm() == BatchNormBy::Cudnn { "cudnn" } else { "own" },
        "branches": session.train_step().runs_beside(),
        "network": network.name, "depth": network.depth, "width": network.widen, "precision": name,
        "batch": config.train.batch_size, "outer": config.sampler.outer_steps, "inner": config.sampler.inner_steps,
        "median_s": t.median_s, "min_s": t.min_s, "tflops": t.gflops / 1e3, "flops": t.flops,
        "peak_bytes": most, "peak_bytes_with_setup": with_setup, "device_bytes": used,
        "state_bytes": t.state_bytes, "planned_bytes": t.planned_bytes,
        "iterations": t.iterations, "choices": gpu.choices().len(), "capture_refused": refusal,
    });
    Ok(Ok((text, data)))
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}
